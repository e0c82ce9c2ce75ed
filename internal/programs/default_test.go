package programs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jailctl/internal/roottest"
)

// Programs under what every run has, a policy without confine: the whole jail, no
// sockets, nothing that leads out.
var ordinary = []struct {
	name  string
	argv  []string
	stdin string
	out   string
}{
	{name: "sh", argv: []string{"sh", "-ec", `
(exit 3) || echo $?
sleep 0 & wait $!
trap 'echo trapped' USR1; kill -USR1 $$
ulimit -n 64; ulimit -n
umask 027; echo x >f; ls -l f | cut -c1-10; rm f; pwd`}, out: "3\ntrapped\n64\n-rw-r-----\n/desk\n"},
	{name: "bash", argv: []string{"bash", "-c", `
set -eo pipefail; set +m
seq 3 | tac | paste -sd,
cat <<END
here $((6 * 7))
END
diff <(echo a) <(echo b) || true
coproc cat; echo through >&${COPROC[1]}; read -u ${COPROC[0]} x; echo $x; eval "exec ${COPROC[1]}>&-"
exec 5<>/desk/both; echo b >&5; cat both
{ sleep 0.01; echo job; } & wait
{ time -p true; } 2>/dev/null
for i in {1..50}; do (:); done; printf '%(%Y)T\n' 0`}, out: "3,2,1\nhere 42\n1c1\n< a\n---\n> b\nthrough\nb\njob\n1970\n"},
	{name: "bash, interactive from a pipe", argv: []string{"bash", "--norc", "-s"}, stdin: "x=5\necho $((x + 1))\n", out: "6\n"},
	{name: "python3", argv: []string{"/usr/bin/python3", "-c", `
import json, subprocess, threading, tempfile, ssl, os, asyncio, select, mmap, fcntl, shutil, socket, signal, uuid, sqlite3
print(json.dumps({"a": [1, 2.5, None]}))
seen = []
threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(seen) == list(range(20)))
print(subprocess.run(["tr", "a-z", "A-Z"], input=b"pipe", capture_output=True, check=True).stdout)
print(subprocess.run("exit 4", shell=True).returncode)
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, "f")
    with open(p, "w") as f: fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX); f.write("x" * 5000)
    os.chmod(p, 0o600); os.utime(p, (1, 1)); os.replace(p, p + "2"); shutil.copytree(d, d + "/c", ignore=lambda *a: ["c"])
    with open(p + "2", "r+b") as f, mmap.mmap(f.fileno(), 0) as m: print(len(m), os.path.getmtime(p + "2"))
print(ssl.create_default_context().verify_mode.name, bool(ssl.OPENSSL_VERSION))
async def a():
    p = await asyncio.create_subprocess_exec("echo", "async", stdout=subprocess.PIPE)
    return (await p.communicate())[0]
print(asyncio.run(a()))
s, t = socket.socketpair(); s.sendall(b"pair"); print(t.recv(9))
socket.send_fds(s, [b"fd"], [0]); print(len(socket.recv_fds(t, 9, 1)[1]))
try: socket.create_connection(("127.0.0.1", 1), 1)
except PermissionError as e: print(e.strerror)
signal.signal(signal.SIGALRM, lambda *a: print("alarm")); signal.setitimer(signal.ITIMER_REAL, .01); signal.pause()
c = sqlite3.connect("/desk/py.db"); c.execute("create table t(a)"); print(c.execute("select count(*) from t").fetchone()[0])
print(len(str(uuid.uuid4())), os.getuid(), os.getgroups())`}, out: `{"a": [1, 2.5, null]}
True
b'PIPE'
4
5000 1.0
CERT_REQUIRED True
b'async\n'
b'pair'
1
Permission denied
alarm
0
36 1 []
`},
	// Its locks are POSIX semaphores, shared memory in files of /dev/shm.
	{name: "python3, multiprocessing", argv: []string{"/usr/bin/python3", "-c", `
import multiprocessing as m
from multiprocessing import shared_memory
for how in "fork", "spawn":
    c = m.get_context(how)
    with c.Pool(2) as p: print(sum(p.map(abs, range(-50, 50))))
q = m.get_context("fork").Queue(); q.put("queue"); print(q.get())
s = shared_memory.SharedMemory(create=True, size=10); s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()`}, out: "2500\n2500\nqueue\n7\n"},
	{name: "perl", argv: []string{"perl", "-e", `use strict; use POSIX; use File::Temp; use Time::HiRes; use Digest::SHA "sha256_hex"; use Socket;
my $p = fork // die; exit 5 unless $p; waitpid $p, 0; print $? >> 8, "\n";
open my $f, "-|", "echo x" or die; print scalar <$f>; close $f; system("true") == 0 or die;
my $t = File::Temp->new; print $t "abc"; close $t; print -s $t->filename, "\n"; print substr(sha256_hex("abc"), 0, 8), "\n";
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die; syswrite $a, "pair\n"; print scalar <$b>;
socket(my $s, AF_INET, SOCK_STREAM, 0) or print "$!\n"; my @pw = getpwuid $<; print "$pw[0]\n";`}, out: "5\nx\n3\nba7816bf\npair\nPermission denied\ndaemon\n"},
	{
		name: "git", argv: []string{"sh", "-ec", `
git config --global user.email a@example.org; git config --global user.name A; git config --global init.defaultBranch main
git init -q origin; cd origin; echo one >file; git add file; git commit -qm 'first'; git tag v1; git gc -q; cd ..
git clone -q origin copy; git clone -q --no-local origin far; git clone -q --bare "file:///desk/origin" bare.git
cd copy; echo two >>file; git commit -qam 'second'; git log --format=%s; git diff --stat HEAD~1; git status --short --branch
git push -q /desk/bare.git main:other; git -C /desk/bare.git log -1 --format=%s other; git -C ../far fsck; git stash list; git rebase -q HEAD~1 && echo rebased; git worktree add -q ../tree v1 2>&1; cat ../tree/file`},
		out: "second\nfirst\n file | 1 +\n 1 file changed, 1 insertion(+)\n## main...origin/main [ahead 1]\nsecond\nrebased\none\n",
	},
	{name: "gcc", argv: []string{"sh", "-ec", `
printf '#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *p) { puts("thread"); return p; }\nint main(void) { pthread_t t; if (pthread_create(&t, 0, f, 0)) return 1; pthread_join(t, 0); puts("compiled"); }\n' >m.c
gcc -O2 -Wall -pthread -o m m.c; ./m; gcc -shared -fPIC -o l.so m.c; ar cr l.a l.so; nm -D l.so | grep -c ' T main'`}, out: "thread\ncompiled\n1\n"},
	{name: "make", argv: []string{"sh", "-ec", `
printf 'all: a b\n\t@cat a b\na b:\n\t@echo $@ >$@\n\t@sleep 0.01\n' >Makefile; make -s -j4; make -q a b && echo done; make -n -B a`}, out: "a\nb\ndone\necho a >a\nsleep 0.01\n"},
	{name: "go", argv: []string{"sh", "-ec", `
mkdir hello; cd hello; export GOPATH=/tmp/go GOCACHE=/tmp/go-build; go mod init example.org/hello 2>/dev/null
printf 'package main\n\nimport ("os"; "sync")\n\nfunc main() {\n\tvar w sync.WaitGroup\n\tfor range 100 { w.Go(func() {}) }\n\tw.Wait()\n\tos.Stdout.WriteString("built\\n")\n}\n' >main.go
go build -o out .; ./out; go run .; go list -m`}, out: "built\nbuilt\nexample.org/hello\n"},
	{name: "node", argv: []string{"node", "-e", `
const c = require("child_process"), w = require("worker_threads"), fs = require("fs")
console.log(c.execSync("echo sync").toString().trim())
fs.mkdtempSync("/tmp/node-"); fs.writeFileSync("n", "x".repeat(10)); console.log(fs.statSync("n").size)
console.log(require("crypto").createHash("sha256").update("abc").digest("hex").slice(0, 8), require("zlib").gzipSync("x").length > 0)
c.exec("echo async; exit 3", (e, out) => { console.log(out.trim(), e.code)
new w.Worker("require('worker_threads').parentPort.postMessage('worker')", {eval: true}).on("message", m => { console.log(m)
c.fork("/dev/null").on("exit", code => { console.log("fork", code)
require("net").connect(1, "127.0.0.1").on("error", e => console.log(e.code)) }) }) })`}, out: "sync\n10\nba7816bf true\nasync 3\nworker\nfork 0\nEACCES\n"},
	{
		name: "busybox", argv: []string{"busybox", "sh", "-c", `busybox seq 5 | busybox awk '{s += $1} END {print s}'; echo x >b; busybox gzip b; busybox zcat b.gz; busybox tar cf b.tar b.gz; busybox tar tf b.tar; busybox wget -q -O- http://127.0.0.1:1/ 2>&1; busybox vi --help 2>&1 | busybox wc -l >/dev/null; busybox id -u`},
		out: "15\nx\nb.gz\nwget: socket: Permission denied\n1\n",
	},
	{name: "sqlite3", argv: []string{"sqlite3", "x.db", "pragma journal_mode=wal; create table t(a, b); insert into t values(1, 'one'), (2, 'two'); begin; delete from t where a = 1; commit; select * from t; pragma integrity_check; vacuum;"}, out: "wal\n2|two\nok\n"},
	{
		name: "tar, gzip, cp, dd, sort", argv: []string{"sh", "-ec", `
mkdir -p t/d; echo x >t/d/f; ln -s f t/d/l; ln t/d/f t/d/h; mkfifo t/p; chmod 751 t/d
tar czf t.tgz t; mkdir u; tar xzpf t.tgz -C u; diff -r --no-dereference -x p t u/t && echo same; stat -c '%a %h %F' u/t/d u/t/d/f u/t/p u/t/d/l
cp -a t v; touch -d @0 v/d/f; stat -c %Y v/d/f; mv v w; rm -r w; xz -k t.tgz; test -s t.tgz.xz; truncate -s 1M big; dd if=big of=copy bs=64k status=none; cmp big copy; find t -newer t.tgz; df . >/dev/null; sort -R -S 1M --parallel=2 big | wc -c`},
		out: "same\n751 2 directory\n644 2 regular file\n644 1 fifo\n777 1 symbolic link\n0\n1048577\n",
	},
	{
		name: "find, xargs, sed, awk, flock, nice, timeout", argv: []string{"sh", "-ec", `
mkdir s; for i in 1 2 3; do echo $i >s/$i; done; sed -i s/2/two/ s/2; find s -type f | sort | xargs -P2 -n1 cat | sort | paste -sd,
awk 'BEGIN { "echo sub" | getline x; print x }'; flock lock echo locked; nice -n 5 nice; timeout 0.05 sleep 5 || echo $?; ionice -c 3 echo idle; setsid -w echo session; nohup echo up 2>/dev/null; taskset -c 0 true; chrt -b 0 echo batch; prlimit --nofile=99:99 sh -c 'ulimit -n'`},
		out: "1,3,two\nsub\nlocked\n5\n124\nidle\nsession\nup\nbatch\n99\n",
	},
}

func TestOrdinaryPrograms(t *testing.T) {
	for _, p := range ordinary {
		t.Run(p.name, func(t *testing.T) {
			root := world(t)
			roottest.Apply(t, "programs", policy(root, ""))
			same(t, jailrun(t, "programs", p.stdin, p.argv...), 0, p.out, "")
		})
	}
}

// Sftp-server reads and writes pipes, as sshd has it.
func TestSftpServer(t *testing.T) {
	root := world(t)
	roottest.Apply(t, "programs", policy(root, ""))
	sh(t, root, "printf 'b\\na\\n' >desk/file")
	same(t, conversation(t, "programs"), 0, "1234567", "")
	sh(t, root, "test -e desk/renamed -a ! -e desk/file")
}

// What the default keeps from programs, they say in their own words and go on.
func TestOrdinaryRefusals(t *testing.T) {
	roottest.Apply(t, "programs", policy(world(t), ""))
	for _, row := range []struct {
		script string
		status int
		errs   string
	}{
		// Set-id bits, those of directories too: a filter cannot tell them apart.
		{"touch f; chmod u+s f", 1, "chmod: changing permissions of 'f': Operation not permitted\n"},
		{"mkdir d; chmod g+s d", 1, "chmod: changing permissions of 'd': Operation not permitted\n"},
		{"git init -q --shared g", 128, "fatal: Could not make /desk/g/.git/hooks/ writable by group\n"},
		{"unshare -U true", 1, "unshare: unshare failed: Operation not permitted\n"},
		{"ipcmk -M 4096", 1, "ipcmk: create share memory failed: Operation not permitted\n"},
		{"dmesg", 1, "dmesg: read kernel buffer failed: Operation not permitted\n"},
		{"renice -n 5 -p 1", 1, "renice: failed to set priority for 1 (process ID): Operation not permitted\n"},
		{"strace -o /dev/null true 2>&1 | grep -q 'PTRACE_TRACEME.*Operation not permitted' && echo not traced >&2", 0, "not traced\n"},
		{"mknod n c 1 3", 1, "mknod: n: Permission denied\n"},
	} {
		same(t, jailrun(t, "programs", "", "sh", "-c", row.script), row.status, "", row.errs)
	}
}

// Python's managers and its fork server talk through Unix sockets, abstract ones.
func TestLocalSockets(t *testing.T) {
	root := world(t)
	const script = `
import multiprocessing as m
if __name__ == "__main__":
    print(m.get_context("fork").Manager().list([1]))
    with m.get_context("forkserver").Pool(1) as p: print(p.map(abs, [-1]))`
	roottest.Apply(t, "open", policy(root, "confine { local_sockets: true }"))
	same(t, jailrun(t, "open", "", "/usr/bin/python3", "-c", script), 0, "[1]\n[1]\n", "")
	roottest.Apply(t, "closed", policy(root, ""))
	if r := jailrun(t, "closed", "", "/usr/bin/python3", "-c", script); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, "\nPermissionError: [Errno 13] Permission denied\n") {
		t.Errorf("%+v", r)
	}
}

// Where the network is open, it is; where it is not, a program says so at once.
func TestCurl(t *testing.T) {
	root := world(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":")+1:]
	roottest.Apply(t, "on", policy(root, `confine { network: true }`))
	roottest.Apply(t, "off", policy(root, ``))
	for _, host := range []string{"127.0.0.1", "localhost"} {
		url := "http://" + host + ":" + port + "/x"
		same(t, jailrun(t, "on", "", "curl", "-sS", url), 0, "hello /x\n", "")
		start := time.Now()
		r := jailrun(t, "off", "", "curl", "-sS", url)
		// The status that curl has for a connection refused.
		if r.Status != 7 || r.Out != "" || !strings.HasPrefix(r.Err, "curl: (7) Failed to connect to "+host) || strings.Count(r.Err, "\n") != 1 || time.Since(start) > 3*time.Second {
			t.Errorf("off: %+v after %v", r, time.Since(start))
		}
	}
}
