package pgdata

import (
	"regexp"
	"testing"
)

func TestParseRelation(t *testing.T) {
	for name, want := range map[string]relation{
		"1259":            {"1259", ""},
		"1259.1":          {"1259", ""},
		"1259_fsm":        {"1259", "fsm"},
		"1259_vm.12":      {"1259", "vm"},
		"4294967295_init": {"4294967295", "init"},
	} {
		if got, ok := parseRelation(name); !ok || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "0", "01259", "4294967296", "1259_", "1259.", "1259_foo", "1259_initx", "1259_init_fsm", "1259.1_fsm",
		"1259x", "t3_1259", "PG_VERSION", "pg_filenode.map", "-1", "1259.1.2"} {
		if got, ok := parseRelation(name); ok {
			t.Errorf("%q passes for a relation: %+v", name, got)
		}
	}
}

func TestIsTemporaryRelation(t *testing.T) {
	for _, name := range []string{"t3_16385", "t0_1", "t12_16385_fsm", "t12_16385_vm.3", "t12_16385.1"} {
		if !isTemporaryRelation(name) {
			t.Errorf("%s does not pass for a temporary relation", name)
		}
	}
	for _, name := range []string{"", "t", "t_", "t3", "t3_", "t_1", "3_16385", "16385", "tt3_16385", "t3_16385_", "t3_16385.", "t3_16385_foo",
		"t3_16385.1_fsm", "t3__16385", "t3_16385 ", "T3_16385"} {
		if isTemporaryRelation(name) {
			t.Errorf("%q passes for a temporary relation", name)
		}
	}
}

// FuzzRelationNames compares with the names as the comments in PostgreSQL's sources describe them.
func FuzzRelationNames(f *testing.F) {
	for _, name := range []string{"1259", "1259_fsm.1", "t3_16385_init", "t1_2.3", "_", ".", "01"} {
		f.Add(name)
	}
	regular := regexp.MustCompile(`^[1-9][0-9]{0,9}(_(fsm|vm|init))?(\.[0-9]+)?\z`)
	temporary := regexp.MustCompile(`^t[0-9]+_[0-9]+(_(fsm|vm|init))?(\.[0-9]+)?\z`)
	f.Fuzz(func(t *testing.T, name string) {
		number, _ := cutDigits(name)
		_, fits := parseOID(number)
		if _, ok := parseRelation(name); ok != (regular.MatchString(name) && fits) {
			t.Errorf("parseRelation(%q) is %v", name, ok)
		}
		if ok := isTemporaryRelation(name); ok != temporary.MatchString(name) {
			t.Errorf("isTemporaryRelation(%q) is %v", name, ok)
		}
	})
}
