package server

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// param is one keyword of a connection string and its value.
type param struct{ key, value string }

// connKeys are the keywords that pgconn takes for itself; every other one ends
// up in RuntimeParams.
var connKeys = []string{
	"host", "port", "database", "user", "password", "passfile", "connect_timeout",
	"ssl", "sslmode", "sslkey", "sslcert", "sslcertmode", "sslrootcert", "sslnegotiation", "sslpassword", "sslsni",
	"krbspn", "krbsrvname", "target_session_attrs", "service", "servicefile",
	"min_protocol_version", "max_protocol_version", "channel_binding", "require_auth",
}

// dsnGives tells whether dsn itself gives key: whether pgconn, which parsed it
// into parsed before, refuses it once every keyword but that one is allowed.
// So there is no second parser that could read a connection string otherwise.
func dsnGives(dsn string, parsed *pgconn.Config, key string) bool {
	if dsn == "" {
		return false
	}
	allowed := slices.DeleteFunc(slices.Clone(connKeys), func(k string) bool { return k == key })
	for k := range parsed.RuntimeParams {
		allowed = append(allowed, k)
	}
	_, err := pgconn.ParseConfigWithOptions(dsn, pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowed})
	return err != nil
}

// withDefaults adds settings that dsn doesn't give to it.
func withDefaults(dsn string, params []param) string {
	if len(params) == 0 {
		return dsn
	}
	if scheme, rest, ok := strings.Cut(dsn, "://"); ok && (scheme == "postgresql" || scheme == "postgres") {
		return scheme + "://" + withQuery(rest, params)
	}
	var b strings.Builder
	for _, p := range params {
		b.WriteString(p.key + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p.value) + "' ")
	}
	return b.String() + dsn
}

// withQuery adds params to the query of a URL without its scheme. As in libpq,
// user information reaches up to an @ in front of any slash, and may hold
// question marks.
func withQuery(rest string, params []param) string {
	head := ""
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		head, rest = rest[:i+1], rest[i+1:]
	}
	sep := "?"
	if strings.Contains(rest, "?") {
		sep = "&"
	}
	for _, p := range params {
		// libpq's URLs don't know + for a space.
		rest += sep + p.key + "=" + strings.ReplaceAll(url.QueryEscape(p.value), "+", "%20")
		sep = "&"
	}
	return head + rest
}

// parseError explains why pgconn can't use the settings, without showing the
// connection string: where one can't be parsed, any part may be the password.
func parseError(dsn string, err error) error {
	cause := errors.Unwrap(err)
	switch {
	case dsn == "":
		// From the environment or the service file: nothing of a DSN in it.
		return &failure{kind: ErrConfig, text: "read the PG* environment: " + asLine(err.Error())}
	case !dsnParses(dsn):
		return &failure{kind: ErrConfig, text: "parse the DSN: it is neither keyword=value pairs (host=/tmp port=5432 user=postgres) " +
			"nor a URL (postgresql://user@host:5432/dbname); it is not shown because it may hold a password"}
	case cause != nil && !strings.Contains(strings.ToLower(cause.Error()), "password"):
		// A quote that isn't closed makes the rest part of a value that the cause shows.
		return &failure{kind: ErrConfig, text: "use the DSN: " + asLine(cause.Error())}
	default:
		return &failure{kind: ErrConfig, text: "use the DSN: check its quotes, its port (1 to 65535, one for all hosts or one for each), " +
			"target_session_attrs and protocol versions"}
	}
}

// dsnParses tells whether the syntax of dsn is right. With no keyword allowed,
// pgconn refuses any, but only a syntax error has a cause underneath.
func dsnParses(dsn string) bool {
	_, err := pgconn.ParseConfigWithOptions(dsn, pgconn.ParseConfigOptions{ConnStringAllowedKeys: []string{}})
	return err == nil || errors.Unwrap(err) == nil
}

// clientOnly are libpq's keywords that pgconn would pass on to the server,
// which refuses them. The standby's primary_conninfo is full of them. A nil
// list means that the keyword may be left out whatever its value; otherwise
// only these values ask for nothing that pgconn doesn't do.
var clientOnly = map[string][]string{
	"fallback_application_name": nil,
	"keepalives":                nil,
	"keepalives_idle":           nil,
	"keepalives_interval":       nil,
	"keepalives_count":          nil,
	"tcp_user_timeout":          nil,
	"load_balance_hosts":        nil,
	"sslcompression":            nil,
	"gssdelegation":             nil,
	"gsslib":                    nil,
	"replication":               nil, // this is an ordinary session, whatever it was written for
	"gssencmode":                {"", "disable", "prefer"},
	"requirepeer":               {""},
	"sslcrl":                    {""},
	"sslcrldir":                 {""},
	"hostaddr":                  {""},
	"ssl_min_protocol_version":  {"", "TLSv1", "TLSv1.1", "TLSv1.2"},
	"ssl_max_protocol_version":  {"", "TLSv1.3"},
}

func dropClientOnly(params map[string]string) error {
	for key, harmless := range clientOnly {
		value, ok := params[key]
		if ok && harmless != nil && !slices.Contains(harmless, value) {
			return &failure{kind: ErrConfig, text: "use the connection settings: " + key + " is not supported: leave it out"}
		}
		delete(params, key)
	}
	return nil
}
