package commands

import (
	"os"
	"testing"
)

// TestAllowTail: only a recovery that ends may end with the beginning of a segment.
func TestAllowTail(t *testing.T) {
	for _, c := range []struct {
		signals []string
		want    bool
	}{
		{nil, false}, // an operator, or pg_rewind, which runs restore_command elsewhere
		{[]string{"recovery.signal"}, true},
		{[]string{"standby.signal"}, false},
		{[]string{"recovery.signal", "standby.signal"}, false},
	} {
		t.Chdir(t.TempDir())
		for _, name := range c.signals {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := &program{log: newLogger(os.Stderr)}
		if got := p.allowTail() != nil; got != c.want {
			t.Errorf("%q: %v, want %v", c.signals, got, c.want)
		}
	}
}
