package seccomp

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Real programs, as an ordinary user, without a network, under what every run has.
// Each line ends in "ok" if the program did its work.
var programs = []struct{ name, script string }{
	{"sh", `set -e; (exit 3) || true; sleep 0 & wait $!; ulimit -n 100; trap 'echo ok' USR1; kill -USR1 $$`},
	{"bash", `bash -c 'set -eo pipefail; x=$(cat <(echo a) | tr a b); coproc cat; echo $x >&${COPROC[1]}; read -u ${COPROC[0]} y; nice true; test $y = b && echo ok'`},
	{"python3", `/usr/bin/python3 -c '
import threading, subprocess, multiprocessing, os, tempfile, asyncio, socket, time
r = []
ts = [threading.Thread(target=lambda: r.append(1)) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
assert len(r) == 8
assert subprocess.run(["echo", "x"], capture_output=True, check=True).stdout == b"x\n"
assert subprocess.Popen("exit 4", shell=True).wait() == 4
with multiprocessing.get_context("fork").Pool(2) as p: assert sum(p.map(abs, range(-5, 5))) == 25
async def f():
    p = await asyncio.create_subprocess_exec("true"); return await p.wait()
assert asyncio.run(f()) == 0
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, "f"); open(p, "w").write("x"); os.chmod(p, 0o755); os.rename(p, p + "2")
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
try: socket.socket(); raise SystemExit("a socket")
except PermissionError: pass
os.nice(1); os.sched_getaffinity(0)
print("ok")'`},
	{"perl", `perl -e 'use strict; use POSIX; my $p = fork // die; exit 5 unless $p; waitpid $p, 0; die unless $? >> 8 == 5;
open my $f, "-|", "echo x" or die; die unless <$f> eq "x\n"; close $f; system("true") == 0 or die; chmod 0755, "." or 1; print "ok\n"'`},
	{"git", `set -e; git init -q a; cd a; git config user.email a@b; git config user.name a; echo x >f; git add f; git commit -qm x; git gc -q; cd ..
git clone -q a b; git clone -q --no-local a c; git -C b log --oneline | grep -q x; git -C c fsck; test -f c/f && echo ok`},
	{"gcc", `set -e; printf '#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *p) { return p; }\nint main(void) { pthread_t t; if (pthread_create(&t, 0, f, 0)) return 1; pthread_join(t, 0); puts("ok"); }\n' >m.c; gcc -O2 -pthread -o m m.c; ./m`},
	{"tar", `set -e; mkdir -p t/d; echo x >t/d/f; ln -s f t/d/l; mkfifo t/p; tar czf t.tgz t; mkdir u; tar xzf t.tgz -C u; cmp t/d/f u/t/d/f; cp -a t v; rm -rf t u v; echo ok`},
	{"sort", `seq 200000 | sort -R -S 1M --parallel=2 | sort -n -S 1M | tail -1 | grep -qx 200000 && echo ok`},
	{"find, xargs, sed, awk, make", `set -e; printf 'all:\n\t@echo o\n' >Makefile; test $(make -j2) = o; find . -name Makefile | xargs -P2 sed s/o/k/ >/dev/null; awk 'BEGIN { system("echo ok") }'`},
}

// Those that a machine may be without.
var others = []struct{ name, script string }{
	{"node", `node -e 'const c = require("child_process"), w = require("worker_threads"); c.execSync("true"); new w.Worker("1", {eval: true}).on("exit", () => require("fs").promises.readdir("/").then(() => console.log("ok")))'`},
	{"sqlite3", `sqlite3 x.db 'pragma journal_mode=wal; create table t(a); insert into t values(1); select "ok" from t;'`},
	{"busybox", `busybox sh -c 'busybox ls / | busybox wc -l >/dev/null; busybox echo ok'`},
}

func TestProgramsUnderTheBaseline(t *testing.T) {
	program := compile(t, Options{})
	run := func(name, script string) {
		dir := public(t)
		start := time.Now()
		out, status := confined(t, child{Program: program, Argv: []string{"/bin/sh", "-c", script}}, dir)
		if status != 0 || !strings.HasSuffix(out, "ok\n") {
			t.Errorf("%s: %v\n%s", name, status, out)
		}
		t.Logf("%s: %v", name, time.Since(start))
	}
	for _, p := range programs {
		run(p.name, p.script)
	}
	for _, p := range others {
		if _, err := exec.LookPath(p.name); err == nil {
			run(p.name, p.script)
		}
	}
}

// The least promises under which real programs do their work: each is needed.
var least = []struct{ promises, script string }{
	{"stdio exec", "/bin/true"},
	{"stdio exec", "cat file"},
	{"stdio exec", "sort file"},
	{"stdio exec", "grep -q x file"},
	{"stdio exec", "ls -l"},
	{"stdio exec", "find . -type f"},
	{"stdio exec wpath cpath", "tar cf new.tar file"},
	{"stdio exec wpath cpath fattr", "tar xf file.tar"},
	{"stdio exec wpath cpath", "cp file copy"},
	{"stdio exec fattr", "touch -c file"},
	{"stdio exec fattr", "chmod 600 file"},
	{"stdio exec dpath", "mkfifo pipe"},
	{"stdio exec rpath cpath flock proc", "flock file true"},
	{"stdio exec rpath", "/bin/sh -c 'cd / && pwd'"},
	{"stdio exec cpath", "rm file2"},
	{"stdio exec cpath", "mkdir new"},
	{"stdio exec proc", "/bin/sh -c 'true | cat; :'"},
	{"stdio exec", "/usr/bin/python3 -I -c 'print(1)'"},
	{"stdio exec", "perl -e 'print 1'"},
}

func TestProgramsUnderPromises(t *testing.T) {
	for _, test := range least {
		try := func(promises []string) (string, bool) {
			dir := public(t)
			out, status := confined(t, child{Argv: []string{"/bin/sh", "-c", "echo x >file; echo x >file2; tar cf file.tar file2; rm file2; echo x >file2"}}, dir)
			if status != 0 {
				t.Fatal(out)
			}
			argv := strings.Fields(test.script)
			if i := strings.Index(test.script, "'"); i >= 0 {
				argv = append(strings.Fields(test.script[:i]), strings.Trim(test.script[i:], "'"))
			}
			if path, err := exec.LookPath(argv[0]); err == nil && !filepath.IsAbs(argv[0]) {
				argv[0] = path
			}
			out, status = confined(t, child{Program: compile(t, Options{Promises: promises}), Argv: argv}, dir)
			return out, status == 0
		}
		all := strings.Fields(test.promises)
		if out, ok := try(all); !ok {
			t.Errorf("%s with %s\n%s", test.script, test.promises, out)
		}
		for i, w := range all[2:] {
			fewer := append(append([]string{}, all[:2+i]...), all[3+i:]...)
			if _, ok := try(fewer); ok {
				t.Errorf("%s: does not need %s", test.script, w)
			}
		}
	}
}
