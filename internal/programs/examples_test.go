package programs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"jailctl/internal/roottest"
)

// applyExample puts a policy of examples/ in force, with this root, for Alice.
func applyExample(t *testing.T, name, root string, replace ...string) {
	t.Helper()
	b, err := os.ReadFile("../../examples/" + name + ".txtpb")
	must(t, err)
	text := string(b)
	replace = append(replace, `"/srv/jails/`+name+`"`, fmt.Sprintf("%q", root), `groups: "users"`, `users: "jailctl-alice"`)
	for i := 0; i < len(replace); i += 2 {
		if strings.Count(text, replace[i]) != 1 {
			t.Fatalf("%s.txtpb has not one %s", name, replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	roottest.Apply(t, name, text)
}

// The examples do what they say, with the confinement that they have.
func TestSftpExample(t *testing.T) {
	root := world(t)
	applyExample(t, "sftp", root)
	sh(t, root, "mkdir exchange; printf 'b\\na\\n' >exchange/file; chown -R nobody:nogroup exchange")
	same(t, conversation(t, "sftp"), 0, "1234567", "")
	sh(t, root, "test -e exchange/renamed -a ! -e exchange/file")
	if r := jailrun(t, "sftp", "", "sh"); r.Status != 125 || !strings.HasPrefix(r.Err, `jailctl: cannot run: command "sh" is not permitted`) {
		t.Errorf("another command: %+v", r)
	}
}

func TestFetchExample(t *testing.T) {
	root := world(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":")+1:]
	applyExample(t, "fetch", root, "[53, 80, 443]", "[53, "+port+", 443]")
	sh(t, root, "chmod 1777 tmp; echo secret >desk/file; chmod 644 desk/file; ls desk/file >/dev/null")
	same(t, jailrun(t, "fetch", "", "curl", "-sS", "-o", "/tmp/x", server.URL+"/x"), 0, "", "")
	sh(t, root, `test "$(cat tmp/x)" = "hello /x"`)
	if r := jailrun(t, "fetch", "", "curl", "-sS", fmt.Sprintf("http://127.0.0.1:%d/", listen(t))); r.Status != 7 {
		t.Errorf("another port: %+v", r)
	}
	same(t, jailrun(t, "fetch", "", "curl", "-sS", "file:///desk/file"), 37, "", "curl: (37) Couldn't open file /desk/file\n")
}

// The confinement that the manual has for a program that computes: even where a
// broken promise kills.
func TestManualExample(t *testing.T) {
	root := world(t)
	manual, err := os.ReadFile("../../docs/jailctl-policy.5")
	must(t, err)
	_, text, found := strings.Cut(string(manual), "\nroot: \"/srv/jails/count\"\n")
	text, _, closed := strings.Cut(text, "\n.Ed\n")
	if !found || !closed {
		t.Fatal("jailctl-policy.5 has no such example")
	}
	roottest.Apply(t, "count", fmt.Sprintf("root: %q\n%s", root, text))
	same(t, jailrun(t, "count", "a b\n"), 0, "      1       2       4\n", "")
	same(t, jailrun(t, "count", "", "wc", "/proc/self/status"), 1, "", "wc: /proc/self/status: Permission denied\n")
	if r := jailrun(t, "count", "", "sh", "-c", "exec 3>/desk/file"); r.Status != 128+31 {
		t.Errorf("a write: %+v", r)
	}
}
