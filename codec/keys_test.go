package codec

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseRecipients(t *testing.T) {
	classic, hybrid := newKey(t), newHybridKey(t)
	for _, k := range []key{classic, hybrid} {
		got, err := ParseRecipients([]string{" " + fmt.Sprint(k.recipient) + "\n"})
		if err != nil || len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(k.recipient) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if got, err := ParseRecipients(nil); err != nil || len(got) != 0 {
		t.Errorf("no recipients: %v, %v", got, err)
	}
}

func TestParseKeyFiles(t *testing.T) {
	a, b := newKey(t), newHybridKey(t)
	public := fmt.Sprintf("# team\r\n\n%v\r\n  %v  ", a.recipient, b.recipient)
	if got, err := ParseRecipientsFile(strings.NewReader(public)); err != nil || len(got) != 2 {
		t.Errorf("recipients: %v, %v", got, err)
	}
	private := fmt.Sprintf("# created: today\n# public key: %v\n%s\n%s\n", a.recipient, a.private, b.private)
	ids, err := ParseIdentities(strings.NewReader(private))
	if err != nil || len(ids) != 2 {
		t.Fatalf("identities: %v", err)
	}
	for _, k := range []key{a, b} {
		if got, err := unseal(seal(t, []byte("x"), k.recipient), ids...); err != nil || string(got) != "x" {
			t.Errorf("decrypt: %q, %v", got, err)
		}
	}
}

// TestBadKeys has errors name the mistake and never the secret.
func TestBadKeys(t *testing.T) {
	k := newKey(t)
	secret := k.private[len(k.private)-40:]
	public := fmt.Sprint(k.recipient)
	for _, c := range []struct {
		what, recipient, identity, says string
	}{
		{"a private key", k.private, "", "private key"},
		{"a private key in lower case", strings.ToLower(k.private), "", "private key"},
		{"a private key with a typing error", strings.Replace(k.private, "KEY-1", "KEY-", 1), "", "private key"},
		{"an SSH key", "ssh-ed25519 AAAA me@host", "", "SSH"},
		{"a plugin's key", "age1yubikey1qqqqqqqqqqqqqqqqqqqqqqqqqqq", "", "malformed"},
		{"a broken key", public[:len(public)-1], "", "malformed"},
		{"something else", "hello", "", "age1"},
		{"nothing", "", "", "age1"},
		{"a public key", "", public, "public key"},
		{"a broken private key", "", k.private[:len(k.private)-1], "malformed"},
		{"a key after other text", "", "key=" + k.private, "AGE-SECRET-KEY"},
		{"an encrypted file", "", "age-encryption.org/v1\n-> scrypt", "age -d"},
		{"an armored file", "", "-----BEGIN AGE ENCRYPTED FILE-----\n", "age -d"},
		{"an empty file", "", "# nothing\n", "none"},
		{"a long line", "", strings.Repeat("A", 1<<20), "longer"},
		{"a long file", "", strings.Repeat("#\n", 3<<20), "more than"},
	} {
		var err error
		if c.identity != "" {
			_, err = ParseIdentities(strings.NewReader(c.identity))
		} else {
			_, err = ParseRecipients([]string{public, c.recipient})
		}
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.what, err, c.says)
		}
		if text := strings.ToLower(fmt.Sprint(err)); strings.Contains(text, strings.ToLower(secret)) {
			t.Errorf("%s: the error repeats the secret", c.what)
		}
	}
}

func TestKeyFileThatCannotBeRead(t *testing.T) {
	if _, err := ParseIdentities(iotest.ErrReader(errBroken)); !errors.Is(err, errBroken) || errors.Is(err, ErrKey) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseRecipientsFile(strings.NewReader("\n")); !errors.Is(err, ErrKey) {
		t.Errorf("no recipients: %v", err)
	}
}

func TestCheckRecipients(t *testing.T) {
	a, b, hybrid := newKey(t).recipient, newKey(t).recipient, newHybridKey(t).recipient
	for _, good := range [][]Recipient{nil, {a}, {a, b}, {hybrid, newHybridKey(t).recipient}} {
		if err := CheckRecipients(good); err != nil {
			t.Errorf("%d recipients: %v", len(good), err)
		}
	}
	if err := CheckRecipients([]Recipient{a, hybrid}); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("mixed: %v", err)
	}
}
