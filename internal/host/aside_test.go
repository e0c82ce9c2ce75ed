package host

import (
	"os"
	"testing"
)

// What is asked aside is not noted, has the answer that was noted, and is noted once it
// is asked.
func TestAside(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(root+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("/a", "1")
	h := New(root)
	aside := h.Aside()
	if _, err := aside.Read("/a", 9); err != nil {
		t.Fatal(err)
	}
	if names, err := aside.List("/"); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if _, err := aside.Lstat("/none"); err == nil {
		t.Error("there is something")
	}
	if asked := h.Asked(); len(asked) != 0 {
		t.Error(asked)
	}
	was, _ := aside.Lstat("/a")
	write("/a", "22")
	if now, _ := h.Lstat("/a"); now != was {
		t.Errorf("%+v in place of %+v", now, was)
	}
	if asked := h.Asked(); len(asked) != 1 || asked["/a"].Mark().Same(h.At("/a")) {
		t.Error(asked)
	}
	aside.Lstat("/a")
	if _, err := h.Lstat("/"); err != nil || len(h.Asked()) != 2 || h.Asked()["/"].Listed {
		t.Error(h.Asked())
	}
	if _, err := h.List("/"); err != nil || !h.Asked()["/"].Listed {
		t.Error(h.Asked())
	}
	aside.List("/")
	if len(h.Asked()) != 2 || !h.Asked()["/"].Listed {
		t.Error(h.Asked())
	}
}
