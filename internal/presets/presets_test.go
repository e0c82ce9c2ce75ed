package presets_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jailctl/internal/roottest"
)

// TestShell works on files as people do, in the directory of their own, which builds
// leave as it is.
func TestShell(t *testing.T) {
	jail(t, "sh")
	var size int64
	must(t, filepath.WalkDir(rootOf("sh"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			size += info.Size()
			return err
		}
		return err
	}))
	if size > 40<<20 {
		t.Errorf("the preset has %d MiB", size>>20)
	}
	same(t, run(t, "sh", "sh", "-ec", `
id -un; pwd; echo "$HOME" ~
printf 'b\na\nb\n' >f; sort -u f | paste -sd, ; grep -c b f; sed s/b/B/ f | head -1; wc -l <f
mkdir -p d/e; cp f d/e; mv d/e/f d/g; find . -type f | sort; rm -r d; test ! -e d
cut -c1 f | tr ab xy | tac | tail -1; expr 6 '*' 7; printf '%s\n' a b | xargs -n1 echo got; [ -c /dev/null ]
ls -ld / | cut -d' ' -f1,3; date -d @0 +%Y; mktemp -u /tmp/XXX | cut -c1-5; echo ä | wc -m; env | grep -c ^TERM= || true
echo kept >kept`), "jailctl-alice\n/home\n/home /home\na,b\n2\nB\n3\n./d/g\n./f\ny\n42\ngot a\ngot b\ndrwxr-xr-x root\n1970\n/tmp/\n2\n0\n")
	// What many hosts have, as this one.
	same(t, run(t, "sh", "bash", "-c", `shopt -s globstar; awk 'BEGIN { print 6 * 7 }'; echo x | gzip | gunzip; tar cf t.tar kept; tar tf t.tar; diff kept kept; less kept </dev/null; command -v vi`), "42\nx\nkept\nkept\n/usr/bin/vi\n")
	if r := run(t, "sh", "vi", "-es", "-c", "%s/kept/edited/", "-c", "wq", "kept"); r.Status != 0 {
		t.Errorf("%+v", r)
	}
	// The default command is the shell.
	same(t, alice(t, "/", "echo $0; cat kept; touch /x 2>/dev/null || echo no", roottest.Jailctl, "run", "sh"), "/bin/sh\nedited\nno\n")

	add(t, contentsFile("sh"), "programs: \"getent\"\n")
	jailctl(t, "build", "sh")
	same(t, run(t, "sh", "sh", "-c", "cat kept; getent passwd "+roottest.Alice.Name+" | cut -d: -f1,2,5"), "edited\n"+roottest.Alice.Name+":x:\n")
}

// TestGit makes repositories in the jail, and clones one of them out of it.
func TestGit(t *testing.T) {
	jail(t, "git", "--preset", "git")
	same(t, run(t, "git", "sh", "-ec", `
git config --global user.email a@example.org; git config --global user.name A; git config --global init.defaultBranch main
git init -q origin; cd origin; echo one >file; git add file; git commit -qm first; git tag v1; git gc -q; cd ..
git clone -q origin copy; git clone -q --no-local origin far; git clone -q --bare file:///home/origin bare.git
cd copy; echo two >>file; git commit -qam second; git log --format=%s; git diff --stat HEAD~1; git status --short --branch
git push -q /home/bare.git main:other; git -C /home/bare.git log -1 --format=%s other; git -C ../far fsck; git rebase -q HEAD~1; echo x >>file; git stash -q; git stash list | cut -c1-9
printf '#!/bin/sh\necho hook ran >&2\nexit 1\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; git commit --allow-empty -qm no 2>&1 || true; rm .git/hooks/pre-commit
git config alias.x '!echo alias'; git x; git -c protocol.file.allow=always submodule --quiet add /home/bare.git sub; git submodule status | cut -c43-
git worktree add -q ../tree v1 2>&1; cat ../tree/file`),
		"second\nfirst\n file | 1 +\n 1 file changed, 1 insertion(+)\n## main...origin/main [ahead 1]\nsecond\nstash@{0}\nhook ran\nalias\nsub (v1)\none\n")
	dir := place(t)
	same(t, alice(t, dir, "", "git", "-c", "protocol.ext.allow=always", "clone", "-q", "ext::jailctl run git %S /home/origin", "out"), "")
	if b, err := os.ReadFile(dir + "/out/file"); string(b) != "one\n" {
		t.Errorf("cloned %q, %v", b, err)
	}
}

// TestRsync copies a tree into a jail and out of it, with jailctl run in the place of a
// remote shell.
func TestRsync(t *testing.T) {
	jail(t, "rsync", "--preset", "rsync")
	dir := place(t)
	same(t, alice(t, dir, "", "sh", "-ec", `
mkdir -p tree/d; echo a >tree/f; ln -s f tree/l; ln tree/f tree/h; mkfifo tree/p; echo x >'tree/d/a name;$()'; chmod 640 'tree/d/a name;$()'; touch -d @86400 tree/f
seq 100000 >tree/big
rsync -aH -e 'jailctl run' tree/ rsync:/home/tree/; sed -i 500s/500/other/ tree/big; rm tree/l; chmod 700 tree/d
rsync -aH --delete -z -e 'jailctl run' tree/ rsync:/home/tree/; rsync -aHi --delete -e 'jailctl run' tree/ rsync:/home/tree/
rsync -aH -e 'jailctl run' rsync:/home/tree/ back/; diff -r --no-dereference -x p tree back; stat -c '%A %h %Y %n' back/f back/p back/d 'back/d/a name;$()' | sed 's/[0-9]* back.[pd]/B/'; test ! -e back/l`),
		"-rw-r--r-- 2 86400 back/f\nprw-r--r-- 1 B\ndrwx------ 2 B\n-rw-r----- 1 B/a name;$()\n")
	same(t, run(t, "rsync", "rsync", "-a", "/home/tree/", "/home/within"), "")
	if _, err := os.Stat(rootOf("rsync") + "/home/within/big"); err != nil {
		t.Error(err)
	}
	if r := run(t, "rsync", "rsync", "-a", "-e", "/bin/sh", "x:y", "/tmp"); r.Status == 0 || strings.Contains(r.Err, "not found") {
		t.Errorf("another program: %+v", r)
	}
	if r := run(t, "rsync", "sh"); r.Status != 125 {
		t.Errorf("another command: %+v", r)
	}
}

// TestPython has a program that uses what the preset is for.
func TestPython(t *testing.T) {
	jail(t, "python", "--preset", "python")
	const script = `
import asyncio, bz2, ctypes, datetime, decimal, hashlib, json, locale, lzma, multiprocessing, os, pwd, sqlite3, ssl, subprocess, sys, tempfile, threading, unicodedata, uuid, xml.etree.ElementTree, zlib, zoneinfo
if __name__ == "__main__":
    print(json.dumps({"a": [1, 2.5, None], "ä": "ö"}, ensure_ascii=False), locale.setlocale(locale.LC_ALL, ""), locale.getpreferredencoding())
    c = ssl.create_default_context(); print(c.verify_mode.name, len(c.get_ciphers()) > 0)
    print(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")).utcoffset(), unicodedata.name("ä"))
    d = sqlite3.connect("data.db"); d.execute("create table t(a)"); d.execute("insert into t values('x')"); d.commit(); print(d.execute("select * from t").fetchall())
    print(pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), os.path.expanduser("~"), sorted(os.listdir("/home")))
    with multiprocessing.get_context("spawn").Pool(2) as p: print(sum(p.map(abs, range(-50, 50))))
    with tempfile.NamedTemporaryFile() as f: print(f.name[:5])
    print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, check=True).stdout)
    print(zlib.crc32(lzma.decompress(lzma.compress(bz2.compress(b"x")))) > 0, hashlib.sha256(b"abc").hexdigest()[:8], ctypes.CDLL(None).getpid() == os.getpid())
    t = threading.Thread(target=print, args=("thread",)); t.start(); t.join()
    async def f(): p = await asyncio.create_subprocess_exec(sys.executable, "-V", stdout=-3); return await p.wait()
    print(asyncio.run(f()))
    try: subprocess.run("true", shell=True)
    except FileNotFoundError: print("no shell")
`
	same(t, alice(t, "/", script, roottest.Jailctl, "run", "python", "python3", "-c", "import sys; open('program.py', 'w').write(sys.stdin.read())"), "")
	same(t, run(t, "python", "python3", "program.py"), `{"a": [1, 2.5, null], "ä": "ö"} C.UTF-8 UTF-8
CERT_REQUIRED True
9:00:00 LATIN SMALL LETTER A WITH DIAERESIS
[('x',)]
jailctl-alice /home /home ['data.db', 'program.py']
2500
/tmp/
b'child\n'
True ba7816bf True
thread
0
no shell
`)

	// All of the library but what the preset leaves out imports as it does outside.
	const modules = `
import sys, importlib
for name in sorted(sys.stdlib_module_names):
    if name in ("antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "_tkinter"): continue
    try: importlib.import_module(name)
    except ImportError as e: print(name, e)
`
	outside := roottest.Run(t, roottest.Alice, "/usr/bin/python3", "-I", "-W", "ignore", "-c", modules)
	if outside.Status != 0 || outside.Out == "" {
		t.Fatalf("%+v", outside)
	}
	same(t, run(t, "python", "python3", "-W", "ignore", "-c", modules), outside.Out)
}

// TestNode has a program that uses what the preset is for.
func TestNode(t *testing.T) {
	jail(t, "node", "--preset", "node")
	same(t, run(t, "node", "node", "-e", `
const fs = require("fs"), c = require("child_process"), w = require("worker_threads")
console.log(require("crypto").createHash("sha256").update("abc").digest("hex").slice(0, 8), require("zlib").gzipSync("x").length > 0)
console.log(new Date(0).toLocaleTimeString("de", {timeZone: "Asia/Tokyo"}), new Intl.NumberFormat("de").format(1234.5), require("os").userInfo().username)
fs.writeFileSync("m.mjs", "import { setTimeout } from 'timers/promises'; await setTimeout(1); console.log('module', process.cwd())")
console.log(c.spawnSync(process.execPath, ["m.mjs"]).stdout.toString().trim())
try { c.execSync("true") } catch (e) { console.log(e.code) }
fetch("http://127.0.0.1:9999").catch(e => { console.log(e.cause.code)
new w.Worker("require('worker_threads').parentPort.postMessage(require('tls').rootCertificates.length > 9)", {eval: true}).on("message", m => console.log("worker", m)) })`),
		"ba7816bf true\n09:00:00 1.234,5 jailctl-alice\nmodule /home\nENOENT\nEACCES\nworker true\n")
}

// TestBuild compiles programs and runs them where they were made.
func TestBuild(t *testing.T) {
	jail(t, "build", "--preset", "build")
	const source = "#include <math.h>\n#include <pthread.h>\n#include <stdio.h>\n#include <sys/socket.h>\n#include <linux/limits.h>\n" +
		"static void *f(void *p) { puts(\"thread\"); pthread_exit(p); }\n" +
		"int main(int c, char **v) { pthread_t t; if (pthread_create(&t, 0, f, 0)) return 1; pthread_join(t, 0); printf(\"%s %.2f %d\\n\", v[0], cos(c), PATH_MAX); }\n"
	same(t, alice(t, "/", source, roottest.Jailctl, "run", "build", "tee", "m.c"), source)
	same(t, run(t, "build", "sh", "-ec", `
printf 'all: dynamic static lto\n\ndynamic: m.c\n\tgcc -O2 -Wall -Werror -pthread -o $@ m.c -lm -ldl -lrt\n\nstatic: m.c\n\tcc -static -O2 -o $@ m.c -lm\n\nlto: m.o\n\tcc -flto -o $@ m.o -lm\n\nm.o: m.c\n\tcc -c -flto -g -o $@ m.c\n' >Makefile
make -s -j2; ./dynamic; ./static; strip lto; ./lto; make -q && echo made
gcc -shared -fPIC -o libm.so m.c; ar cr lib.a m.o; nm -D libm.so | grep -c ' T main'; objdump -f static | grep -c EXEC_P; pwd`),
		"thread\n./dynamic 0.54 4096\nthread\n./static 0.54 4096\nthread\n./lto 0.54 4096\nmade\n1\n1\n/build\n")
}

// TestStatic has one program in a tree that is empty otherwise; the policy makes it the
// default command.
func TestStatic(t *testing.T) {
	jail(t, "static", "--preset", "static", "/usr/bin/busybox")
	same(t, run(t, "static", "busybox", "sh", "-c", `busybox find / -xdev ! -type d | busybox sort; busybox pwd; busybox ls -ld /data | busybox cut -d' ' -f1; echo x >/tmp/f; busybox cat /tmp/f; busybox whoami; busybox rm /tmp/f`),
		"/dev/full\n/dev/null\n/dev/random\n/dev/urandom\n/dev/zero\n/etc/group\n/etc/passwd\n/usr/bin/busybox\n/data\ndrwx------\nx\njailctl-alice\n")
	if r := run(t, "static"); !strings.HasPrefix(r.Out+r.Err, "BusyBox v") {
		t.Errorf("%+v", r)
	}
}

// TestLocale converts characters by a module that nothing but the preset asks for.
func TestLocale(t *testing.T) {
	convert := func(name string) roottest.Result {
		return alice(t, "/", "\xe4\n", roottest.Jailctl, "run", name, "iconv", "-f", "ISO-8859-15", "-t", "UTF-8")
	}
	jail(t, "locale", "--preset", "locale", "iconv")
	same(t, convert("locale"), "ä\n")
	jail(t, "without", "--preset", "libc", "iconv")
	if r := convert("without"); r.Status == 0 {
		t.Errorf("without the preset: %+v", r)
	}
}

// TestTerminal asks what terminals can do.
func TestTerminal(t *testing.T) {
	jail(t, "terminal", "--preset", "terminal", "tput")
	for _, name := range []string{"xterm-256color", "tmux-256color", "linux", "vt220", "rxvt-unicode-256color", "screen", "dumb"} {
		if r := run(t, "terminal", "tput", "-T", name, "cols"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	same(t, run(t, "terminal", "tput", "-T", "xterm-256color", "colors"), "256\n")
	if r := run(t, "terminal", "tput", "-T", "none", "cols"); r.Status == 0 {
		t.Errorf("a terminal that is none: %+v", r)
	}
}

// TestTimezone tells the time elsewhere.
func TestTimezone(t *testing.T) {
	jail(t, "time", "--preset", "timezone", "date", "env")
	same(t, run(t, "time", "env", "TZ=Asia/Tokyo", "date", "-d", "@0", "+%H %Z"), "09 JST\n")
	same(t, run(t, "time", "date", "-d", "@0", "+%H %Z"), roottest.Run(t, roottest.Alice, "date", "-d", "@0", "+%H %Z").Out)
}

// TestOwnPreset has one of the administrator's, which is meant before one of ours.
func TestOwnPreset(t *testing.T) {
	file := roottest.Etc + "/presets/locale.txtpb"
	must(t, os.WriteFile(file, []byte("include: \"static\"\nprograms: \"/usr/bin/busybox\"\n"), 0o644))
	t.Cleanup(func() { os.Remove(file) })
	jail(t, "own", "--preset", "locale")
	same(t, run(t, "own", "busybox", "echo", "own"), "own\n")
	if out := jailctl(t, "help", "init"); !strings.Contains(out, roottest.Etc+"/presets") {
		t.Error(out)
	}
}

// TestMissing has presets whose program is not on the host: a build says which line asks
// for it, and how to get it; nothing is left.
func TestMissing(t *testing.T) {
	for _, row := range []struct{ lines, want string }{
		{"programs: \"rsync-none\"\n", `%s:1:11: there is no program "rsync-none" in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin; install it, or write its whole path`},
	} {
		file := roottest.Etc + "/presets/missing.txtpb"
		must(t, os.WriteFile(file, []byte(row.lines), 0o644))
		begin(t, "missing", "--preset", "missing")
		r := roottest.Root(t, roottest.Jailctl, "build", "missing")
		if want := fmt.Sprintf(row.want+"\njailctl: cannot build missing: 1 mistake in its contents\n", file); r.Status != 2 || r.Err != want {
			t.Errorf("%+v; want %q", r, want)
		}
		if _, err := os.Lstat(rootOf("missing")); err == nil {
			t.Error("a tree was left")
		}
		os.Remove(file)
	}
}

// TestReadme builds what the README shows, with Alice's own name.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	must(t, err)
	_, text, found := strings.Cut(string(b), "\n## A jail that builds itself\n")
	_, text, more := strings.Cut(text, "\n```\ninclude: ")
	text, _, closed := strings.Cut("include: "+text, "\n```\n")
	if !found || !more || !closed {
		t.Fatal("README.md has no such example")
	}
	begin(t, "readme")
	must(t, os.WriteFile(contentsFile("readme"), []byte(strings.ReplaceAll(text, `"alice"`, `"`+roottest.Alice.Name+`"`)+"\n"), 0o644))
	made(t, "readme")
	same(t, run(t, "readme", "sh", "-ec", "curl --version | head -1 | cut -d' ' -f1; echo x | xz | xz -dc; test -s /etc/ssl/certs/ca-certificates.crt; test -s /etc/hosts; pwd; cd; touch f; ls"), "curl\nx\n/home\nf\n")
}
