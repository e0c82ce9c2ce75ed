package presets_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"jailctl/internal/roottest"
)

// authority is a certificate authority that nobody but the test knows, and a server's
// certificate by it.
func authority(t *testing.T) (ca []byte, server tls.Certificate) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		return k
	}
	top := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "jailctl test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	topKey, leafKey := key(), key()
	topRaw, err := x509.CreateCertificate(rand.Reader, top, top, &topKey.PublicKey, topKey)
	must(t, err)
	leafRaw, err := x509.CreateCertificate(rand.Reader, leaf, top, &leafKey.PublicKey, topKey)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: topRaw}), tls.Certificate{Certificate: [][]byte{leafRaw}, PrivateKey: leafKey}
}

// opened replaces the end of a policy that init wrote by a network to one port.
func opened(t *testing.T, name string, port int) {
	t.Helper()
	add(t, policyFile(name), fmt.Sprintf("confine { network: true network_ports { connect: %d } }\n", port))
}

// TestTLS has curl and python fetch a page by name over TLS: from a server whose
// authority the jail trusts, and not where it trusts those of the host.
func TestTLS(t *testing.T) {
	ca, certificate := authority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshakes that are to fail
	server.StartTLS()
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	url := fmt.Sprintf("https://localhost:%d/x", port)
	const fetch = `import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())`
	trust := fmt.Sprintf("files { path: \"/etc/ssl/certs/ca-certificates.crt\" text: %q }\n", ca)

	for _, name := range []string{"trusting", "strange"} {
		begin(t, name, "--preset", "tls", "curl")
		add(t, contentsFile(name), map[string]string{"trusting": "include: [\"dns\", \"python\"]\n" + trust, "strange": "include: \"dns\"\n"}[name])
		opened(t, name, port)
		made(t, name)
	}
	same(t, run(t, "trusting", "curl", "-sS", url), "hello /x\n")
	same(t, run(t, "trusting", "python3", "-c", fetch, url), "b'hello /x\\n'\n")
	// The host's are still there, one by one.
	same(t, run(t, "trusting", "python3", "-c", "import ssl; print(ssl.create_default_context().get_ca_certs()[0]['subject'][0][0][1], len(__import__('os').listdir('/etc/ssl/certs')) > 50)"), "jailctl test True\n")
	// 60: the peer's certificate cannot be verified, with the certificates that there are.
	if r := run(t, "strange", "curl", "-sS", url); r.Status != 60 || !strings.Contains(r.Err, "unable to get local issuer certificate") {
		t.Errorf("%+v", r)
	}
}

// TestNames looks names up that are in the jail's files.
func TestNames(t *testing.T) {
	begin(t, "names", "--preset", "dns", "getent")
	opened(t, "names", 9)
	made(t, "names")
	same(t, run(t, "names", "getent", "services", "https"), "https                 443/tcp\n")
	same(t, run(t, "names", "getent", "protocols", "tcp"), "tcp                   6 TCP\n")
	if r := run(t, "names", "getent", "ahosts", "localhost"); r.Status != 0 || !strings.Contains(r.Out, "127.0.0.1 ") {
		t.Errorf("%+v", r)
	}
	same(t, run(t, "names", "getent", "group", "root"), "root:x:0:\n")
}

// sshd starts a server for Alice alone, with a key of hers, and returns its port, and
// what an ssh client needs.
func sshd(t *testing.T, dir, command string) (options []string) {
	t.Helper()
	shell := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", "cd "+dir+"\n"+script).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// An account with "!" as password counts as locked, unless PAM says otherwise; "*" is
	// no password either. sshd wants a directory for its own chroot.
	shell("usermod -p '*' " + roottest.Alice.Name + "; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key; chown " + roottest.Alice.Name + " key")
	if _, err := os.Stat("/run/sshd"); err != nil {
		must(t, os.Mkdir("/run/sshd", 0o755))
		t.Cleanup(func() { os.Remove("/run/sshd") })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	must(t, os.WriteFile(dir+"/config", fmt.Appendf(nil, `Port %d
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/key.pub
StrictModes no
UsePAM no
PidFile none
AllowUsers %[3]s
PasswordAuthentication no
Subsystem sftp internal-sftp
ForceCommand %[4]s
`, port, dir, roottest.Alice.Name, command), 0o644))
	var log bytes.Buffer
	server := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", dir+"/config")
	server.Stderr = &log
	must(t, server.Start())
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.String())
		}
	})
	for range 100 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	host, err := os.ReadFile(dir + "/host.pub")
	must(t, err)
	must(t, os.WriteFile(dir+"/known", fmt.Appendf(nil, "[127.0.0.1]:%d %s", port, host), 0o644))
	return []string{
		"-q", "-F", "none", "-i", dir + "/key", "-o", "UserKnownHostsFile=" + dir + "/known", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", fmt.Sprintf("Port=%d", port), "-o", "User=" + roottest.Alice.Name,
	}
}

// TestSftp is a session through sshd, which starts jailctl run in the place of any
// command.
func TestSftp(t *testing.T) {
	jail(t, "sftp", "--preset", "sftp")
	dir := place(t)
	// With the policy's default command, and with the one that sshd_config(5) may name.
	for _, command := range []string{roottest.Jailctl + " run sftp", roottest.Jailctl + " run sftp /usr/lib/openssh/sftp-server"} {
		options := sshd(t, place(t), command)
		batch := strings.Join([]string{
			"pwd", "put -p big", "put small 'a name;$()'", "mkdir d", "rename small2 d/moved", "chmod 600 d/moved", "symlink d/moved link", "ls -l d", "get -p big back", "rm big", "get d/moved", "ls -1",
			"-get /etc/shadow", "-put small /etc/new", "-ls /root", "ls -1 /", "rm d/moved", "rmdir d", "rm link", "rm 'a name;$()'",
		}, "\n") + "\n"
		must(t, os.WriteFile(dir+"/batch", []byte(strings.Replace(batch, "mkdir d", "mkdir d\nput small small2", 1)), 0o644))
		r := alice(t, dir, "", "sh", "-ec", "echo small >small; seq 300000 >big; touch -d @86400 big; sftp "+strings.Join(options, " ")+" -b batch 127.0.0.1; cmp big back; stat -c %Y back; stat -c %a moved; rm back moved")
		var out []string
		for line := range strings.Lines(r.Out) {
			if !strings.HasPrefix(line, "sftp>") {
				out = append(out, strings.TrimSpace(line))
			}
		}
		got := strings.Join(out, "\n")
		for _, want := range []string{"Remote working directory: /home", " jailctl-alice jailctl-alice        6 ", "a name;$()\nd\nlink\n", "\n/dev\n/etc\n/home\n", "\n86400\n600"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}
		if r.Status != 0 || !strings.Contains(r.Err, `File "/etc/shadow" not found`) || !strings.Contains(r.Err, "/etc/new") || !strings.Contains(r.Err, "/root") {
			t.Errorf("status %d: %s", r.Status, r.Err)
		}
		// Another command is not run.
		if r := alice(t, dir, "", "ssh", append(options, "127.0.0.1", "id")...); strings.Contains(r.Out, "uid=") {
			t.Errorf("%+v", r)
		}
	}
	if left, err := os.ReadDir(rootOf("sftp") + "/home"); len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
