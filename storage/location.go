package storage

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

const (
	schemeFile = "file"
	schemeS3   = "s3"

	defaultRegion = "us-east-1"
	amazonHost    = "s3.amazonaws.com"
)

// A Location says where a repository is. It is comparable, holds no secrets,
// and comes from ParseLocation; the zero value is no location.
type Location struct {
	scheme string
	path   string // file: absolute and clean

	bucket        string
	prefix        string // without slashes at its ends
	endpoint      string // scheme://host[:port]; "" is Amazon's
	region        string // "" is defaultRegion
	pathStyle     string // "", "true" or "false"
	unconditional bool
	caFile        string
}

// ParseLocation reads a repository URL:
//
//	file:///absolute/directory
//	s3://bucket/prefix?endpoint=https://host:9000&region=eu-1&path-style=true&conditional=off&ca-file=/abs.pem
//
// Whatever can't be meant is ErrConfig with the reason, before any request is
// made: template references that nobody resolved, user names and passwords,
// white space, unknown parameters. The message never repeats a secret.
func ParseLocation(raw string) (Location, error) {
	loc, err := parseLocation(raw)
	if err != nil {
		return Location{}, fmt.Errorf("repository URL: %w: %w", ErrConfig, err)
	}
	return loc, nil
}

// IsZero reports whether l is no location.
func (l Location) IsZero() bool { return l == Location{} }

// Conditional reports whether Create asks the store itself to refuse a key
// that is taken. It is false for ?conditional=off, where walden looks before
// it writes and two racing hosts are not told apart.
func (l Location) Conditional() bool { return !l.unconditional }

// String renders the URL again. It holds no secrets.
func (l Location) String() string {
	switch l.scheme {
	case schemeFile:
		return (&url.URL{Scheme: schemeFile, Path: l.path}).String()
	case schemeS3:
		u := url.URL{Scheme: schemeS3, Host: l.bucket, RawQuery: l.query()}
		if l.prefix != "" {
			u.Path = "/" + l.prefix
		}
		return u.String()
	default:
		return ""
	}
}

func (l Location) query() string {
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+"="+queryValue(value))
		}
	}
	add("endpoint", l.endpoint)
	add("region", l.region)
	add("path-style", l.pathStyle)
	if l.unconditional {
		add("conditional", "off")
	}
	add("ca-file", l.caFile)
	return strings.Join(params, "&")
}

// queryValue escapes s, but leaves what a reader likes to see in a URL and
// what a query may hold.
func queryValue(s string) string {
	return strings.NewReplacer("%3A", ":", "%2F", "/").Replace(url.QueryEscape(s))
}

// ID is a stable identity of the repository, for keys in local state: the
// same bucket and prefix at the same endpoint have the same ID whatever the
// other parameters are.
func (l Location) ID() string {
	switch l.scheme {
	case schemeFile:
		return "file:" + l.path
	case schemeS3:
		return "s3:" + path.Join(l.endpointID(), l.bucket, l.prefix)
	default:
		return ""
	}
}

// endpointID is host:port in lower case. Bucket names are unique across all
// of Amazon's endpoints, so those count as one.
func (l Location) endpointID() string {
	u, err := url.Parse(l.endpoint)
	if err != nil || u.Host == "" || isAmazon(u.Hostname()) {
		return amazonHost
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		host = "[" + addr.String() + "]"
	}
	return host + ":" + port
}

func isAmazon(host string) bool {
	host = strings.ToLower(host)
	return host == "amazonaws.com" || strings.HasSuffix(host, ".amazonaws.com")
}
