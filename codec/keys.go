package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// maxKeyFile bounds a file of keys; a post-quantum recipient takes 2 KB.
const maxKeyFile = 4 << 20

// ParseRecipients reads public keys, one an element: native age recipients
// (age1...) and post-quantum ones (age1pq1...). Errors are ErrKey and never
// repeat what could be a secret.
func ParseRecipients(list []string) ([]Recipient, error) {
	recipients := make([]Recipient, 0, len(list))
	for i, s := range list {
		r, err := parseRecipient(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("recipient %d: %w: %w", i+1, ErrKey, err)
		}
		recipients = append(recipients, r)
	}
	return recipients, nil
}

// ParseRecipientsFile reads public keys, one a line; empty lines and those that
// start with # don't count. A file without any is ErrKey: it would silently
// switch encryption off.
func ParseRecipientsFile(r io.Reader) ([]Recipient, error) { return parseKeys(r, parseRecipient) }

// ParseIdentities reads private keys as age-keygen writes them, one a line;
// empty lines and those that start with # don't count. A file without any is
// ErrKey. Errors never repeat what the file says.
func ParseIdentities(r io.Reader) ([]Identity, error) { return parseKeys(r, parseIdentity) }

// CheckRecipients tells whether one object can be encrypted to all of them:
// post-quantum keys can't be mixed with others. The error is ErrKey.
func CheckRecipients(recipients []Recipient) error {
	if len(recipients) == 0 {
		return nil
	}
	if _, err := age.Encrypt(io.Discard, recipients...); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

func parseKeys[K any](r io.Reader, parse func(string) (K, error)) ([]K, error) {
	var keys []K
	limited := &io.LimitedReader{R: r, N: maxKeyFile + 1}
	lines := bufio.NewScanner(limited)
	number := 0
	for lines.Scan() {
		number++
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w: %w", number, ErrKey, err)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: %w: longer than any key", number+1, ErrKey)
	} else if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrKey, maxKeyFile)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the file holds none", ErrKey)
	}
	return keys, nil
}

func parseRecipient(s string) (Recipient, error) {
	switch {
	case strings.HasPrefix(s, "age1pq1"):
		return age.ParseHybridRecipient(s)
	case strings.HasPrefix(s, "age1"):
		return age.ParseX25519Recipient(s)
	case strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-"):
		return nil, errors.New("a private key where a public one belongs (age-keygen -y prints it); keep it off this host")
	case strings.HasPrefix(s, "ssh-"):
		return nil, errors.New("SSH keys are not supported, only those that begin with age1")
	default:
		return nil, errors.New("not an age public key (age1...)")
	}
}

func parseIdentity(s string) (Identity, error) {
	switch {
	case strings.HasPrefix(s, "AGE-SECRET-KEY-PQ-1"):
		return age.ParseHybridIdentity(s)
	case strings.HasPrefix(s, "AGE-SECRET-KEY-1"):
		return age.ParseX25519Identity(s)
	case strings.HasPrefix(s, "age1"):
		return nil, errors.New("a public key where a private one belongs (AGE-SECRET-KEY-...)")
	case strings.HasPrefix(s, "age-encryption.org/"), strings.HasPrefix(s, "-----BEGIN AGE ENCRYPTED FILE"):
		return nil, errors.New("the file is itself encrypted: decrypt it with age -d first")
	default:
		return nil, errors.New("not an age private key (AGE-SECRET-KEY-...)")
	}
}
