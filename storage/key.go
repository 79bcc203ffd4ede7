package storage

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxKeyLen = 1024 // bytes; Amazon's limit

// checkKey refuses what is not a key in every store, so that a repository can
// move from one to another.
func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("the key is empty")
	case len(key) > maxKeyLen:
		return fmt.Errorf("the key has %d bytes, more than %d", len(key), maxKeyLen)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q is not valid UTF-8", key)
	case strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("key %q holds a control character", key)
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" {
			return fmt.Errorf("key %q has an empty element", key)
		}
		if element[0] == '.' {
			return fmt.Errorf("key %q has an element that begins with a dot", key)
		}
	}
	return nil
}

// checkRange is checkKey for a read from offset off.
func checkRange(key string, off int64) error {
	if off < 0 {
		return fmt.Errorf("offset %d is negative", off)
	}
	return checkKey(key)
}

// checkPrefix is checkKey for the beginning of a key, which may be empty and
// end anywhere.
func checkPrefix(prefix string) error {
	dir, name := "", prefix
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir, name = prefix[:i], prefix[i+1:]
		if err := checkKey(dir); err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
	}
	if name == "" {
		return nil
	}
	if err := checkKey(name); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	return nil
}
