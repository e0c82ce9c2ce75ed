package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestBuildScripts has stories of the verbs that make trees. Trees are made by root only,
// in $DIR, where nobody else can write; from the files in $WORK/host.
func TestBuildScripts(t *testing.T) {
	if os.Getuid() != 0 {
		fmt.Println("left out: the stories of build need root")
		return
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/build",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("/opt", "jailctl-script-")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			env.Setenv("DIR", dir)
			env.Setenv("HOST_ROOT", env.WorkDir+"/host")
			for _, d := range []string{"etc/jails", "etc/contents", "var/policies", "host"} {
				if err := os.MkdirAll(filepath.Join(env.WorkDir, d), 0o755); err != nil {
					return err
				}
			}
			// The contents files are inputs of a build, and so in the host.
			inHost := env.WorkDir + "/host" + env.WorkDir
			if err := os.MkdirAll(inHost, 0o755); err != nil {
				return err
			}
			if err := os.Rename(env.WorkDir+"/etc", inHost+"/etc"); err != nil {
				return err
			}
			if err := os.Symlink(inHost+"/etc", env.WorkDir+"/etc"); err != nil {
				return err
			}
			return filepath.WalkDir(env.WorkDir, func(name string, e fs.DirEntry, err error) error {
				if err != nil || !strings.HasSuffix(name, ".txtpb") {
					return err
				}
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				return os.WriteFile(name, []byte(strings.ReplaceAll(string(b), "$DIR", dir)), 0o644)
			})
		},
	})
}
