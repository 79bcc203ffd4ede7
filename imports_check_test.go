package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "walden/"

// sourceFile is a parsed file, of which the rules of imports_test.go are checked.
type sourceFile struct {
	pkg        string // directory below the top of the module; "main" for the top
	positions  *token.FileSet
	syntax     *ast.File
	violations []string
}

// parseModule parses every file of the module but tests and what lies in directories that go's
// patterns leave out.
func parseModule(root string) ([]*sourceFile, error) {
	var files []*sourceFile
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && leftOut(name) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parseFile(filepath.ToSlash(name), nil)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func leftOut(dir string) bool {
	base := filepath.Base(dir)
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil // another module
}

// parseFile parses the file of that name; its text is source, or, if that is nil, read from the file.
func parseFile(name string, source any) (*sourceFile, error) {
	f := &sourceFile{pkg: path.Dir(name), positions: token.NewFileSet()}
	if f.pkg == "." {
		f.pkg = "main"
	}
	var err error
	f.syntax, err = parser.ParseFile(f.positions, name, source, parser.SkipObjectResolution)
	return f, err
}

// check returns a line for each place that breaks a rule.
func (f *sourceFile) check() []string {
	if within(f.pkg, testOnly) {
		return nil
	}
	if f.pkg != "main" && layerOf(f.pkg) < 0 && !strings.HasPrefix(f.pkg, leaves) {
		f.report(f.syntax.Package, "%s has no layer: give it one in imports_test.go, and in the documentation", f.pkg)
	}
	names := map[string]string{} // what an import is called in this file -> its path
	for _, spec := range f.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			f.report(spec.Pos(), "%v", err)
			continue
		}
		f.checkImport(spec.Pos(), imported)
		switch {
		case spec.Name == nil:
			names[path.Base(imported)] = imported
		case spec.Name.Name == ".":
			f.report(spec.Pos(), "don't import with a dot: nobody sees where a name is from")
		default:
			names[spec.Name.Name] = imported
		}
	}
	f.checkNames(names)
	return f.violations
}

func (f *sourceFile) report(at token.Pos, format string, args ...any) {
	f.violations = append(f.violations, fmt.Sprintf("%s: ", f.positions.Position(at))+fmt.Sprintf(format, args...))
}

func (f *sourceFile) checkImport(at token.Pos, imported string) {
	if to, ok := strings.CutPrefix(imported, module); ok {
		f.checkArrow(at, to)
		return
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		if !f.high() && slices.Contains(bannedNames, imported) {
			f.report(at, "%s may not be used below commands", imported)
		}
		return
	}
	if slices.Contains(onlyStandard, f.pkg) {
		f.report(at, "%s may import only the standard library, not %s", f.pkg, imported)
		return
	}
	for library, users := range confined {
		if within(imported, []string{library}) {
			if !within(f.pkg, users) && users[0] != "*" {
				f.report(at, "%s may not import %s: it is confined to %s", f.pkg, library, strings.Join(users, " and "))
			}
			return
		}
	}
	f.report(at, "%s may not import %s: a further library needs a reason, and a line in imports_test.go", f.pkg, imported)
}

// checkArrow checks an import of walden's own package to.
func (f *sourceFile) checkArrow(at token.Pos, to string) {
	from, target := owner(f.pkg), owner(to)
	switch {
	case within(to, testOnly):
		f.report(at, "only tests may import %s", to)
	case strings.HasPrefix(to, leaves) && !strings.HasPrefix(f.pkg, leaves), from == target:
	case f.pkg == "main" && target == "commands":
	case f.pkg != "main" && layerOf(from) >= 0 && layerOf(from) < layerOf(to) && !slices.Contains(forbidden[from], target):
	case slices.Contains(sideways[from], target):
	default:
		f.report(at, "%s may not import %s: see the layers in imports_test.go", from, target)
	}
}

// checkNames checks the uses of functions and variables.
func (f *sourceFile) checkNames(imports map[string]string) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil {
				f.checkFunction(n.Name)
			}
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok {
				f.checkFunction(name)
			}
		case *ast.SelectorExpr:
			from, ok := n.X.(*ast.Ident)
			if !ok || f.high() {
				break
			}
			name := imports[from.Name] + "." + n.Sel.Name
			if slices.Contains(bannedNames, name) && !slices.Contains(excepted[f.pkg], name) {
				f.report(n.Pos(), "%s may not be used below commands", name)
			}
		}
		return true
	})
}

func (f *sourceFile) checkFunction(name *ast.Ident) {
	if slices.Contains(bannedFunctions, name.Name) {
		f.report(name.Pos(), "%s may not be used", name.Name)
	}
}

// high reports whether the file's package may print, exit, and read flags and the environment.
func (f *sourceFile) high() bool {
	return f.pkg == "main" || owner(f.pkg) == "commands"
}

// owner returns the package of layers that pkg is, or lies below; pkg itself if there is none.
func owner(pkg string) string {
	for _, layer := range layers {
		for _, name := range layer {
			if within(pkg, []string{name}) {
				return name
			}
		}
	}
	return pkg
}

// layerOf returns the index in layers, or -1.
func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(layer []string) bool { return within(pkg, layer) })
}

// within reports whether a path is one of the parents or lies below one.
func within(p string, parents []string) bool {
	return slices.ContainsFunc(parents, func(parent string) bool {
		return p == parent || strings.HasPrefix(p, parent+"/")
	})
}
