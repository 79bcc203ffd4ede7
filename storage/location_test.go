package storage

import (
	"errors"
	"strings"
	"testing"
)

func TestParseLocation(t *testing.T) {
	tests := []struct {
		raw, str, id  string
		unconditional bool
	}{
		{raw: "file:///var/backups/pg", str: "file:///var/backups/pg", id: "file:/var/backups/pg"},
		{raw: "file:///var//backups/./x/../pg/", str: "file:///var/backups/pg", id: "file:/var/backups/pg"},
		{raw: "FILE:///a%20b", str: "file:///a%20b", id: "file:/a b"},
		{raw: "file:///a@b", str: "file:///a@b", id: "file:/a@b"},
		{raw: "s3://bucket", str: "s3://bucket", id: "s3:s3.amazonaws.com/bucket"},
		{raw: "s3://bucket/", str: "s3://bucket", id: "s3:s3.amazonaws.com/bucket"},
		{raw: "s3://bucket/a/b/?region=eu-central-1", str: "s3://bucket/a/b?region=eu-central-1", id: "s3:s3.amazonaws.com/bucket/a/b"},
		{
			raw: "s3://bucket?endpoint=https://s3.eu-central-1.amazonaws.com",
			str: "s3://bucket?endpoint=https://s3.eu-central-1.amazonaws.com", id: "s3:s3.amazonaws.com/bucket",
		},
		{
			raw:           "s3://my.bucket-1/p?conditional=off&ca-file=/etc/ca%20file.pem&path-style=true&endpoint=https://HOST:9000/&region=eu-1",
			str:           "s3://my.bucket-1/p?endpoint=https://host:9000&region=eu-1&path-style=true&conditional=off&ca-file=/etc/ca+file.pem",
			id:            "s3:host:9000/my.bucket-1/p",
			unconditional: true,
		},
		{raw: "s3://bucket?endpoint=http://host&conditional=on", str: "s3://bucket?endpoint=http://host", id: "s3:host:80/bucket"},
		{raw: "s3://bucket?endpoint=https://host", str: "s3://bucket?endpoint=https://host", id: "s3:host:443/bucket"},
		{raw: "s3://bucket?endpoint=https://[::1]:9000", str: "s3://bucket?endpoint=https://%5B::1%5D:9000", id: "s3:[::1]:9000/bucket"},
	}
	for _, test := range tests {
		loc, err := ParseLocation(test.raw)
		if err != nil {
			t.Errorf("%s: %v", test.raw, err)
			continue
		}
		if loc.String() != test.str || loc.ID() != test.id || loc.Conditional() == test.unconditional || loc.IsZero() {
			t.Errorf("%s: got %s, ID %s, conditional %t", test.raw, loc, loc.ID(), loc.Conditional())
		}
		again, err := ParseLocation(loc.String())
		if err != nil || again != loc {
			t.Errorf("%s: parsed again: %+v, %v, want %+v", loc, again, err, loc)
		}
	}
}

func TestParseLocationRefuses(t *testing.T) {
	const uuid = "3f2b8c1e-9d47-4a6b-8e05-1c7d9f0a2b34"
	tests := []struct{ raw, reason string }{
		{"", "empty"},
		{"s3://${{x.BUCKET}}/p", `"${{x.BUCKET}}"`},
		{"s3://${{ x.BUCKET }}/p", `"${{ x.BUCKET }}"`},
		{"s3://{{ .Values.bucket }}", `"{{ .Values.bucket }}"`},
		{"s3://$BUCKET/p", `"$BUCKET"`},
		{"s3://bucket/${PREFIX}", `"${PREFIX}"`},
		{"s3://bucket/$(PREFIX)", `"$(PREFIX)"`},
		{"s3://bucket/%24%7BPREFIX%7D", `"${PREFIX}"`},
		{"s3://bucket?endpoint=$ENDPOINT", `"$ENDPOINT"`},
		{"file:///var/{{name", "template"},
		{"$WALDEN_REPO", `"$WALDEN_REPO"`},
		{"s3://" + uuid + "/p", "UUID"},
		{"s3://" + strings.ToUpper(uuid), "UUID"},
		{"s3://bucket/a b", "white space at byte 13"},
		{" s3://bucket", "white space at byte 0"},
		{"s3://bucket\n", "control character U+000A"},
		{"s3://bucket/\x00", "control character"},
		{"s3://bucket/a%00", "control character"},
		{"s3://bucket/a%20b", "white space"},
		{"s3://bucket/\xff", "UTF-8"},
		{"file:///a%ff", "UTF-8"},
		{"s3://AKIAKEY:sEcReT@bucket/p", "credentials"},
		{"s3://AKIAKEY:sEc/ReT@bucket/p", "credentials"},
		{"s3://bucket?endpoint=https://AKIAKEY:sEcReT@host", "credentials"},
		{"file://AKIAKEY:sEcReT@host/p", "absolute"},
		{"s3://bucket?secret_key=sEcReT", `"secret_key" is unknown`},
		{"s3://bucket?access-key=AKIAKEY&region=eu-1", "unknown"},
		{"s3://bucket?region=a&region=b", "2 times"},
		{"s3://bucket?region=", "region"},
		{"s3://bucket?region=a/b", "region"},
		{"s3://bucket?path-style=yes", "true or false"},
		{"s3://bucket?conditional=false", "on or off"},
		{"s3://bucket?ca-file=ca.pem", "absolute"},
		{"s3://bucket?endpoint=host:9000", "https://"},
		{"s3://bucket?endpoint=ftp://host", "https://"},
		{"s3://bucket?endpoint=https://", "no host"},
		{"s3://bucket?endpoint=https://host/path", "host and port only"},
		{"s3://bucket?endpoint=https://host:port", "port"},
		{"s3://bucket?a;b", "name=value"},
		{"s3://bucket#fragment", "fragment"},
		{"s3://", "no bucket"},
		{"s3:///prefix", "no bucket"},
		{"s3://Bucket", "not a bucket name"},
		{"s3://my_bucket", "not a bucket name"},
		{"s3://ab", "not a bucket name"},
		{"s3://a..b", "not a bucket name"},
		{"s3://a.-b", "not a bucket name"},
		{"s3://-ab", "not a bucket name"},
		{"s3://" + strings.Repeat("a", 64), "not a bucket name"},
		{"s3://10.0.0.1/p", "address"},
		{"s3://host:9000/bucket", "endpoint="},
		{"s3://bucket/a//b", "empty element"},
		{"s3://bucket/../b", "dot"},
		{"file://var/backups", "three slashes"},
		{"file://", "absolute"},
		{"file:///", "root directory"},
		{"file:///a/..", "root directory"},
		{"file:relative", "begin with"},
		{"/var/backups", "begin with"},
		{"bucket/prefix", "begin with"},
		{"file:///a?region=b", "no parameters"},
		{"gs://bucket", `"gs" is unknown`},
		{"https://bucket.s3.amazonaws.com", `"https" is unknown`},
	}
	for _, test := range tests {
		loc, err := ParseLocation(test.raw)
		if !errors.Is(err, ErrConfig) || !loc.IsZero() {
			t.Errorf("%q: got %+v, %v, want ErrConfig", test.raw, loc, err)
			continue
		}
		if !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%q: the message lacks %q: %v", test.raw, test.reason, err)
		}
		if strings.ContainsAny(err.Error(), "\n\x00") || strings.Contains(err.Error(), "sEc") || strings.Contains(err.Error(), "AKIA") {
			t.Errorf("%q: more than one line, or a secret: %v", test.raw, err)
		}
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(Location{}, Options{}); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v, want ErrConfig", err)
	}
}

func FuzzParseLocation(f *testing.F) {
	f.Add("s3://bucket/prefix") // more in testdata
	f.Fuzz(func(t *testing.T, raw string) {
		loc, err := ParseLocation(raw)
		if err != nil {
			if !errors.Is(err, ErrConfig) || !loc.IsZero() {
				t.Fatalf("%q: got %+v, %v", raw, loc, err)
			}
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("%q: message %q", raw, err)
			}
			return
		}
		again, err := ParseLocation(loc.String())
		if err != nil || again != loc {
			t.Fatalf("%q renders as %q, which parses as %+v, %v, want %+v", raw, loc, again, err, loc)
		}
		if loc.ID() == "" || loc.ID() != again.ID() {
			t.Fatalf("%q has ID %q", raw, loc.ID())
		}
	})
}
