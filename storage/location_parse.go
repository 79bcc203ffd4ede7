package storage

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Template references as CI systems, compose files, shells and Helm write them.
var (
	templateRef = regexp.MustCompile(`\$?\{\{[^{}]*\}\}|\$\{[^{}]*\}|\$\([^()]*\)|\$[A-Za-z_][A-Za-z0-9_]*`)
	uuidName    = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	badDots     = regexp.MustCompile(`\.\.|\.-|-\.`)
	regionName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
)

func parseLocation(raw string) (Location, error) {
	if err := checkText(raw); err != nil {
		return Location{}, err
	}
	before, _, _ := strings.Cut(raw, "?")
	scheme, rest, found := strings.Cut(before, "://")
	if !found {
		return Location{}, errors.New("it has to begin with s3:// or file://, as in s3://bucket/prefix or file:///absolute/directory")
	}
	if scheme != schemeFile && strings.Contains(rest, "@") {
		// Checked on the text: net/url would repeat a password in its error.
		return Location{}, errors.New("it holds an '@': credentials don't belong in the URL, they come from the AWS_* environment, the shared credentials file or the machine's role")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Location{}, withoutURL(err)
	}
	switch {
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return Location{}, errors.New("it holds a '#', which begins a fragment and has no meaning here")
	case u.Scheme == schemeFile:
		return parseFile(u)
	case u.Scheme == schemeS3:
		return parseS3(u)
	default:
		return Location{}, fmt.Errorf("scheme %q is unknown, s3 and file are known", u.Scheme)
	}
}

// checkText refuses what no URL of a repository holds, in a form that names
// what is wrong.
func checkText(raw string) error {
	if raw == "" {
		return errors.New("it is empty")
	}
	if !utf8.ValidString(raw) {
		return errors.New("it is not valid UTF-8")
	}
	if err := checkTemplate(raw); err != nil {
		return err
	}
	for i, r := range raw {
		if unicode.IsControl(r) {
			return fmt.Errorf("it holds the control character %U at byte %d", r, i)
		}
		if unicode.IsSpace(r) {
			return fmt.Errorf("it holds white space at byte %d", i)
		}
	}
	return nil
}

// checkTemplate finds references that a template engine, a CI system or a
// shell should have replaced, whether escaped or not.
func checkTemplate(raw string) error {
	text := raw
	if unescaped, err := url.PathUnescape(raw); err == nil {
		text = unescaped
	}
	if ref := templateRef.FindString(text); ref != "" {
		return fmt.Errorf("it holds the unresolved template reference %q: nothing put a value in its place", ref)
	}
	if strings.Contains(text, "{{") || strings.Contains(text, "}}") || strings.Contains(text, "${") {
		return errors.New("it holds part of an unresolved template reference, '{{', '}}' or '${'")
	}
	return nil
}

// withoutURL strips the URL that net/url puts into its errors.
func withoutURL(err error) error {
	var parseErr *url.Error
	if errors.As(err, &parseErr) {
		return parseErr.Err
	}
	return err
}

func parseFile(u *url.URL) (Location, error) {
	switch {
	case u.User != nil || u.Host != "":
		return Location{}, errors.New("file:// takes an absolute path, as in file:///absolute/directory, with three slashes and no host")
	case u.RawQuery != "" || u.ForceQuery:
		return Location{}, errors.New("file:// takes no parameters")
	case !strings.HasPrefix(u.Path, "/"):
		return Location{}, errors.New("file:// takes an absolute path, as in file:///absolute/directory")
	}
	if err := checkDecoded(u.Path); err != nil {
		return Location{}, err
	}
	clean := path.Clean(u.Path)
	if clean == "/" {
		return Location{}, errors.New("it names the root directory")
	}
	return Location{scheme: schemeFile, path: filepath.FromSlash(clean)}, nil
}

// checkDecoded looks at what escapes stood for. A space in a directory's name
// is legal when it was written as %20, because then it was meant.
func checkDecoded(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it holds escapes that are not UTF-8")
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return errors.New("it holds an escaped control character")
	}
	return nil
}

func parseS3(u *url.URL) (Location, error) {
	if err := checkBucket(u.Host); err != nil {
		return Location{}, err
	}
	if strings.Contains(u.Path, "@") {
		return Location{}, errors.New("prefix: it holds an escaped '@'")
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return Location{}, fmt.Errorf("prefix: %w", err)
		}
		if strings.ContainsFunc(prefix, unicode.IsSpace) {
			return Location{}, errors.New("prefix: it holds escaped white space")
		}
	}
	loc := Location{scheme: schemeS3, bucket: u.Host, prefix: prefix}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Location{}, errors.New("the parameters behind the '?' are not name=value&name=value")
	}
	for _, name := range slices.Sorted(maps.Keys(params)) { // the same error each time
		values := params[name]
		if len(values) != 1 {
			return Location{}, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
		if err := loc.setParam(name, values[0]); err != nil {
			return Location{}, err
		}
	}
	return loc, nil
}

// setParam never repeats the value of an unknown parameter: it might be a key.
func (l *Location) setParam(name, value string) (err error) {
	switch name {
	case "endpoint":
		l.endpoint, err = parseEndpoint(value)
	case "region":
		l.region = value
		if !regionName.MatchString(value) {
			err = fmt.Errorf("region %q is not a region's name", value)
		}
	case "path-style":
		l.pathStyle = value
		err = checkOneOf(name, value, "true", "false")
	case "conditional":
		l.unconditional = value == "off"
		err = checkOneOf(name, value, "on", "off")
	case "ca-file":
		l.caFile = filepath.Clean(value)
		if !filepath.IsAbs(value) {
			err = fmt.Errorf("ca-file %q is not an absolute path", value)
		} else {
			err = checkDecoded(value)
		}
	default:
		err = fmt.Errorf("parameter %q is unknown, known are endpoint, region, path-style, conditional and ca-file", name)
	}
	return err
}

func checkOneOf(name, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s is %q, it has to be %s", name, value, strings.Join(allowed, " or "))
}

func parseEndpoint(value string) (string, error) {
	if strings.Contains(value, "@") {
		return "", errors.New("endpoint: it holds an '@': credentials don't belong in the URL")
	}
	u, err := url.Parse(value)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", withoutURL(err))
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("endpoint %q has to begin with https:// or http://", value)
	case u.Hostname() == "":
		return "", fmt.Errorf("endpoint %q has no host", value)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("endpoint %q has to be scheme, host and port only", value)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// checkBucket applies Amazon's rules, which other servers keep to as well.
func checkBucket(name string) error {
	switch {
	case name == "":
		return errors.New("it names no bucket, as in s3://bucket/prefix")
	case uuidName.MatchString(name):
		return fmt.Errorf("bucket %q is a UUID: a template has put an identifier where the bucket's name belongs", name)
	case strings.Contains(name, ":"):
		return errors.New("the bucket stands where you wrote host:port: write s3://bucket?endpoint=https://host:port")
	case !bucketName.MatchString(name) || badDots.MatchString(name):
		return fmt.Errorf("%q is not a bucket name: 3 to 63 of a-z, 0-9, '.' and '-', with a letter or digit at both ends", name)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("%q is an address, not a bucket name: write s3://bucket?endpoint=https://%s", name, name)
	}
	return nil
}
