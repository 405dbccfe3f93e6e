// Command generate prints the schema table of the built-in kinds: names,
// protobuf numbers, Go's rules for absent fields, patch and list-map keys,
// defaults. It reads them from the Go types of k8s.io/api by reflection, from
// their markers, and from client-go's merge schema. No text of theirs is kept.
//
//	go run . > ../types.txt
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// The group versions whose kinds are roots of the table.
var roots = []schema.GroupVersion{
	{Version: "v1"},
	{Group: "admissionregistration.k8s.io", Version: "v1"},
	{Group: "apps", Version: "v1"},
	{Group: "authentication.k8s.io", Version: "v1"},
	{Group: "authorization.k8s.io", Version: "v1"},
	{Group: "autoscaling", Version: "v1"},
	{Group: "autoscaling", Version: "v2"},
	{Group: "batch", Version: "v1"},
	{Group: "certificates.k8s.io", Version: "v1"},
	{Group: "coordination.k8s.io", Version: "v1"},
	{Group: "discovery.k8s.io", Version: "v1"},
	{Group: "events.k8s.io", Version: "v1"},
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"},
	{Group: "networking.k8s.io", Version: "v1"},
	{Group: "node.k8s.io", Version: "v1"},
	{Group: "policy", Version: "v1"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"},
	{Group: "resource.k8s.io", Version: "v1"},
	{Group: "scheduling.k8s.io", Version: "v1"},
	{Group: "storage.k8s.io", Version: "v1"},
	{Group: "storagemigration.k8s.io", Version: "v1"},
}

// Go types with a JSON form of their own.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":       "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":  "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":   "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":   "fieldsv1",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":   "quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString": "intorstring",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":    "raw",
}

type smdField struct {
	Name    string  `json:"name"`
	Type    smdType `json:"type"`
	Default any     `json:"default"`
}

type smdType struct {
	NamedType string `json:"namedType"`
	List      *struct {
		ElementRelationship string   `json:"elementRelationship"`
		Keys                []string `json:"keys"`
	} `json:"list"`
	Map *struct {
		Fields              []smdField `json:"fields"`
		ElementRelationship string     `json:"elementRelationship"`
	} `json:"map"`
	ElementRelationship string `json:"elementRelationship"`
}

type smdNamed struct {
	Name string `json:"name"`
	smdType
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func moduleDir(module string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	check(err)
	return strings.TrimSpace(string(out))
}

// mergeSchema reads client-go's merge schema: (message, field) -> field, and the
// messages that are one value.
func mergeSchema() (map[string]smdField, map[string]bool) {
	file := filepath.Join(moduleDir("k8s.io/client-go"), "applyconfigurations/internal/internal.go")
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	check(err)
	var text string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.HasPrefix(lit.Value, "`types:") {
			text = strings.Trim(lit.Value, "`")
		}
		return true
	})
	var doc struct {
		Types []smdNamed `json:"types"`
	}
	check(yaml.Unmarshal([]byte(text), &doc))
	fields, atomic := map[string]smdField{}, map[string]bool{}
	for _, t := range doc.Types {
		if t.Map == nil {
			continue
		}
		if t.Map.ElementRelationship == "atomic" {
			atomic[t.Name] = true
		}
		for _, f := range t.Map.Fields {
			fields[t.Name+"/"+f.Name] = f
		}
	}
	return fields, atomic
}

// optionalMarkers reads which fields are marked optional: "pkg.Type.Field".
type markers struct {
	optional map[string]bool
	seen     map[string]bool
	dirs     map[string]string
}

func (m *markers) load(pkg string) {
	if m.seen[pkg] {
		return
	}
	m.seen[pkg] = true
	var dir string
	for module, root := range m.dirs {
		if strings.HasPrefix(pkg, module+"/") {
			dir = filepath.Join(root, strings.TrimPrefix(pkg, module))
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	check(err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "generated") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		check(err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range st.Fields.List {
				if f.Doc == nil {
					continue
				}
				for _, c := range f.Doc.List {
					if strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(c.Text, "//")), "+optional") ||
						strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(c.Text, "//")), "+k8s:optional") {
						for _, name := range f.Names {
							m.optional[pkg+"."+spec.Name.Name+"."+name.Name] = true
						}
					}
				}
			}
			return true
		})
	}
}

func messageName(t reflect.Type) string {
	pkg := t.PkgPath()
	pkg = strings.TrimPrefix(pkg, "k8s.io/")
	return "io.k8s." + strings.ReplaceAll(pkg, "/", ".") + "." + t.Name()
}

func packageOf(name string) string { return name[:strings.LastIndex(name, ".")] }

// A named slice that is a protobuf message of its own: one repeated field.
func wrapped(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Name() == "" {
		return false
	}
	_, ok := reflect.PointerTo(t).MethodByName("Unmarshal")
	return ok
}

type generator struct {
	markers *markers
	merge   map[string]smdField
	queue   []reflect.Type
	known   map[reflect.Type]bool
}

func (g *generator) message(t reflect.Type) string {
	if !g.known[t] {
		g.known[t] = true
		g.queue = append(g.queue, t)
	}
	return messageName(t)
}

// typeText names the type of a field as seen from package `from`.
func (g *generator) typeText(t reflect.Type, from string) string {
	if name, ok := special[t.PkgPath()+"."+t.Name()]; ok {
		return name
	}
	if t.Kind() == reflect.Pointer {
		return g.typeText(t.Elem(), from)
	}
	if wrapped(t) {
		return "wrapped:" + g.typeText(t.Elem(), from)
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int32:
		return "int32"
	case reflect.Int64:
		return "int64"
	case reflect.Float64:
		return "double"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + g.typeText(t.Elem(), from)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic("map key " + t.String())
		}
		return "map:" + g.typeText(t.Elem(), from)
	case reflect.Struct:
		name := g.message(t)
		if packageOf(name) == from {
			return "." + t.Name()
		}
		return name
	}
	panic("kind of " + t.String())
}

// goName is Go's name of a field's type, without pointers, and derived is what
// the table says of it by itself.
func goName(t reflect.Type) (name, derived string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, ok := special[t.PkgPath()+"."+t.Name()]; ok {
		return t.String(), t.String()
	}
	switch t.Kind() {
	case reflect.Slice:
		_, inner := goName(t.Elem())
		return t.String(), "[]" + inner
	case reflect.Map:
		_, inner := goName(t.Elem())
		return t.String(), "map[string]" + inner
	case reflect.Struct:
		return t.String(), t.String()
	default:
		return t.String(), t.Kind().String()
	}
}

func (g *generator) field(out *bufio.Writer, owner reflect.Type, f reflect.StructField) {
	proto := strings.Split(f.Tag.Get("protobuf"), ",")
	if len(proto) < 2 {
		if f.Type.Name() != "TypeMeta" {
			fmt.Fprintf(os.Stderr, "no number: %s.%s\n", messageName(owner), f.Name)
		}
		return
	}
	number, err := strconv.Atoi(proto[1])
	check(err)
	jsonTag := strings.Split(f.Tag.Get("json"), ",")
	name, options := jsonTag[0], jsonTag[1:]
	message := messageName(owner)
	text := g.typeText(f.Type, packageOf(message))
	var flags []string
	omitempty, omitzero := slices.Contains(options, "omitempty"), slices.Contains(options, "omitzero")
	plainStruct := f.Type.Kind() == reflect.Struct
	switch {
	case f.Anonymous && (name == "" || slices.Contains(options, "inline")):
		name = "-"
		flags = append(flags, "inline")
	case f.Type.Kind() == reflect.Pointer:
		flags = append(flags, "presence")
		if !omitempty {
			flags = append(flags, "always")
		}
	case plainStruct && !omitzero, !plainStruct && !omitempty && !omitzero:
		flags = append(flags, "always")
	}
	g.markers.load(owner.PkgPath())
	key := owner.PkgPath() + "." + owner.Name() + "." + f.Name
	if name != "-" && !omitempty && !g.markers.optional[key] {
		flags = append(flags, "required")
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		flags = append(flags, "patch="+strategy)
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		flags = append(flags, "patchkey="+key)
	}
	if m, ok := g.merge[message+"/"+name]; ok {
		if m.Type.List != nil && m.Type.List.ElementRelationship == "associative" {
			if len(m.Type.List.Keys) > 0 {
				flags = append(flags, "keys="+strings.Join(m.Type.List.Keys, ","))
			} else {
				flags = append(flags, "set")
			}
		}
		if m.Type.ElementRelationship == "atomic" || (m.Type.Map != nil && m.Type.Map.ElementRelationship == "atomic") {
			flags = append(flags, "atomic")
		}
		if m.Default != nil && !reflect.ValueOf(m.Default).IsZero() {
			if encoded, err := json.Marshal(m.Default); err == nil && string(encoded) != "{}" {
				flags = append(flags, "default="+string(encoded))
			}
		}
	}
	if name, derived := goName(f.Type); name != derived {
		flags = append(flags, "go="+strings.ReplaceAll(name, " ", ""))
	}
	fmt.Fprintf(out, "\t%s %d %s", name, number, text)
	for _, flag := range flags {
		fmt.Fprintf(out, " %s", flag)
	}
	fmt.Fprintln(out)
}

func main() {
	merge, atomic := mergeSchema()
	g := &generator{
		markers: &markers{optional: map[string]bool{}, seen: map[string]bool{}, dirs: map[string]string{
			"k8s.io/api":          moduleDir("k8s.io/api"),
			"k8s.io/apimachinery": moduleDir("k8s.io/apimachinery"),
		}},
		merge: merge,
		known: map[reflect.Type]bool{},
	}
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		if slices.Contains(roots, gvk.GroupVersion()) && strings.HasPrefix(t.PkgPath(), "k8s.io/api/") {
			g.message(t)
		}
	}
	for _, v := range []any{metav1.Status{}, metav1.DeleteOptions{}, metav1.CreateOptions{}, metav1.UpdateOptions{},
		metav1.PatchOptions{}, metav1.WatchEvent{}, metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{},
		metav1.List{}} {
		g.message(reflect.TypeOf(v))
	}
	bodies, objects := map[string]string{}, map[string]string{}
	for len(g.queue) > 0 {
		t := g.queue[0]
		g.queue = g.queue[1:]
		var body strings.Builder
		if _, ok := t.FieldByName("TypeMeta"); ok {
			objects[messageName(t)] = " object"
		}
		if atomic[messageName(t)] {
			objects[messageName(t)] += " atomic"
		}
		out := bufio.NewWriter(&body)
		for i := range t.NumField() {
			g.field(out, t, t.Field(i))
		}
		check(out.Flush())
		bodies[messageName(t)] = body.String()
	}
	names := make([]string, 0, len(bodies))
	for name := range bodies {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("%s%s\n%s", name, objects[name], bodies[name])
	}
}
