package jailtree

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

// Trees of jails are not copied: each build of a jail that had its own tree in it would be
// twice the one before.
func TestOwnPlace(t *testing.T) {
	b := newBare(t)
	for _, dir := range []string{"/srv/jails/web", "/srv/jails/.web.jailctl/12", "/srv/other/app", "/srv/other/.app.jailctl", "/srv/.none.jailctl", "/var/lib/jailctl/manifests", "/srv/users/x"} {
		do(t, os.MkdirAll(b.host+dir, 0o755))
	}
	for _, dir := range []string{"/srv/jails/.web.jailctl", "/srv/other/.app.jailctl", "/srv/.none.jailctl"} {
		do(t, os.Chmod(b.host+dir, 0o700))
	}
	// As only root could, or nobody.
	do(t, os.Mkdir(b.host+"/srv/users/.x.jailctl", 0o700), os.Chown(b.host+"/srv/users/.x.jailctl", 1, 1))
	do(t, os.Mkdir(b.host+"/srv/users/.y.jailctl", 0o755))
	for _, f := range []string{"/srv/jails/web/f", "/srv/jails/.web.jailctl/12/f", "/srv/other/app/f", "/srv/other/f", "/srv/users/x/f", "/srv/users/.y.jailctl/f", "/var/lib/jailctl/manifests/m", "/var/lib/f"} {
		b.put(t, f, "", 0o755)
	}
	b.link(t, "/web", "srv/jails/web")
	const end = " is jailctl's own, and no jail can be made of it; "
	for _, test := range []struct{ root, text, want string }{
		{"/srv/jails/web", `paths: "/srv/jails"`, `8: "/srv/jails/web"` + end + `exclude: "/srv/jails/web" leaves it out`},
		{"", `paths: "/srv/jails"`, `8: "/srv/jails/web"` + end + `exclude: "/srv/jails/web" leaves it out`},
		{"", `paths: "/srv/oth*"`, `8: "/srv/other/app"` + end + `exclude: "/srv/other/app" leaves it out`},
		{"", `paths: "/srv/jails/web"`, `8: "/srv/jails/web"` + end + `leave it out`},
		{"", `paths: "/srv/jails/*"`, `8: "/srv/jails/web"` + end + `leave it out`},
		{"", `paths: "/web"`, `8: "/srv/jails/web"` + end + `leave it out`},
		{"", `programs: "/web/f"`, `11: "/srv/jails/web"` + end + `leave it out`},
		{"", `optional_paths: "/srv/jails/.web.jailctl/12/f"`, `17: "/srv/jails/.web.jailctl"` + end + `leave it out`},
		{"", `paths: "/var"`, `8: "/var/lib/jailctl"` + end + `exclude: "/var/lib/jailctl" leaves it out`},
		{"/srv/users/x/new", `paths: "/srv/users"`, `8: "/srv/users/x/new"` + end + `exclude: "/srv/users/x/new" leaves it out`},
		{"/srv/users/x", `paths: "/srv/users/x/f"`, `8: "/srv/users/x"` + end + `leave it out`},

		{"/srv/jails/web", `paths: "/srv/jails" exclude: "/srv/jails/web" devices: "null"`, "/srv/jails"},
		{"/srv/jails/web", `paths: "/srv" exclude: ["/srv/other/app", "/srv/users"] directories { path: "/srv/jails" state: true }`, "/srv /srv/jails /srv/other /srv/other/f"},
		{"/srv/jails/web", `paths: "/srv/users"`, "/srv /srv/users /srv/users/.x.jailctl /srv/users/.y.jailctl /srv/users/.y.jailctl/f /srv/users/x /srv/users/x/f"},
	} {
		h := b.machine()
		h.Root = test.root
		plan, err := Make(t.Context(), load(t, test.text), h)
		problems := Problems{}
		if strings.Contains(test.want, end) {
			if want := "web.txtpb:1:" + test.want; !errors.As(err, &problems) || err.Error() != want {
				t.Errorf("root %q, %s: %v\nin place of %s", test.root, test.text, err, want)
			}
			continue
		}
		do(t, err)
		if strings.Contains(test.text, `exclude: "/srv/jails/web"`) && (len(plan.Notes) != 1 || plan.Notes[0] != `"/srv/jails/.web.jailctl"`+strings.TrimSuffix(end, "; ")+"; it is left out") {
			t.Errorf("%q", plan.Notes)
		}
		var got []string
		for _, e := range plan.Entries {
			got = append(got, string(e.Path))
		}
		if got := strings.Join(got, " "); !strings.HasPrefix(got, "/ ") || !strings.HasSuffix(" "+got, " "+test.want) {
			t.Errorf("root %q, %s: %s\nin place of %s", test.root, test.text, got, test.want)
		}
	}
}

// A user's link to a jail's tree is left out: users could otherwise keep root from building.
func TestLinkToOwnPlace(t *testing.T) {
	b := newBare(t)
	do(t, os.MkdirAll(b.host+"/srv/jails", 0o755), os.Mkdir(b.host+"/srv/jails/.web.jailctl", 0o700), os.Mkdir(b.host+"/home", 0o755))
	b.put(t, "/srv/jails/web/f", "", 0o644)
	b.link(t, "/home/link", "/srv/jails/web/f")
	do(t, os.Lchown(b.host+"/home/link", 1, 1))
	want := `/ directory 0755
/home directory 0755 < /home (1:8)
/home/link link to "/srv/jails/web/f" < /home/link (1:8)
/srv directory 0755 < /srv (1:8)
/srv/jails directory 0755 < /srv/jails (1:8)
/srv/jails/web directory 0755 < /srv/jails/web (1:8)
note: "/srv/jails/web" is jailctl's own, and no jail can be made of it; it is left out
note: the link "/home/link" leads to "/srv/jails/web/f", which is not in the jail
`
	if got := b.planOf(t, `paths: "/home"`); got != want {
		t.Error(got)
	}
}

// The first build already is refused, and the tree in use stays what it is.
func TestBuildOfItself(t *testing.T) {
	b := newBench(t)
	b.root = b.host + "/srv/revs/web"
	do(t, os.MkdirAll(b.host+"/srv/revs", 0o755))
	b.spec.Paths = []contents.Path{path1("/srv/revs"), path1("/usr/share/data")}
	building := func() Building {
		building := b.building()
		building.Root = "/srv/revs/web"
		return building
	}
	refused := func() {
		t.Helper()
		s := b.open(t)
		defer s.Close()
		for _, make := range []func() error{
			func() error { _, err := s.Preview(context.Background(), building()); return err },
			func() error { _, err := s.Build(context.Background(), building()); return err },
		} {
			if err := make(); err == nil || !strings.Contains(err.Error(), `web:1:1: "/srv/revs/web" is jailctl's own`) {
				t.Error(err)
			}
		}
	}
	refused()
	b.spec.Paths = b.spec.Paths[1:]
	b.build(t)
	b.spec.Paths = append(b.spec.Paths, path1("/srv/revs"))
	b.edited(t)
	refused()
	var st unix.Stat_t
	if err := unix.Lstat(b.root+"/srv", &st); err != unix.ENOENT {
		t.Error(err)
	}
}
