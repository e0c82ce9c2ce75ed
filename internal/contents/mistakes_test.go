package contents

import (
	"slices"
	"strings"
	"testing"
)

// mistakes has one mistake in each text, and where and how it is told. The file
// is web.txtpb; a text that names no program gets one, in its last line.
var mistakes = []struct {
	name, text, want string
}{
	{"unknown field", "\n  program: \"x\"", `2:3: unknown field program; write programs`},
	{"field of policies", "root: \"/srv\"", `1:1: unknown field root; the fields here are description, include, programs, packages, with_dependencies, paths, optional_paths, users, groups, devices, directories, symlinks, files, archive, exclude, keep`},
	{"twice", "keep: 1\nkeep: 2", `2:1: keep stands in line 1 already; keep one of the two`},
	{"list for a single", "keep: [1]", `1:1: keep is one value, not a list; remove the brackets`},
	{"empty list", "paths: []", `1:1: paths is an empty list; remove it, or name what it should hold`},
	{"two texts", `paths: "/a" "/b"`, `1:13: two texts side by side are one text; write one text, or a list: ["...", "..."]`},
	{"unquoted", `paths: /a`, `1:8: paths cannot be "/a"; write paths: a text in quotes ("...")`},
	{"bad escape in bytes", `paths: "/a\q"`, `1:8: paths cannot be read: invalid escape code "\\q" in string; write \\ for a backslash`},
	{"bad escape in text", `description: "\xff"`, `1:14: description cannot be read: contains invalid UTF-8; write \\ for a backslash, and text in UTF-8`},
	{"number for bytes", `paths: 5`, `1:8: paths cannot be "5"; write paths: a text in quotes ("...")`},
	{"brace", "directories {\n  path: \"/a\"\n", `1:13: what is opened here is never closed; write "}" where it ends`},
	{"NUL in a path", `paths: "/a\0b"`, `1:8: paths holds a NUL byte; remove it`},
	{"NUL in a program", `programs: "a\000"`, `1:11: programs holds a NUL byte; remove it`},
	{"NUL in a target", `symlinks { path: "/a" target: "\x00" }`, `1:31: target holds a NUL byte; remove it`},
	{"NUL in a user", `users: "a\0"`, `1:8: users holds a NUL byte; remove it`},
	{"byte order mark", "\ufeffkeep: 1", `1:1: the file begins with a byte order mark; save it as UTF-8 without one`},
	{"not UTF-8", "# \xff", `1:3: byte 0xff is not UTF-8; save the file as UTF-8`},
	{"too large", strings.Repeat("#", 262140), `1:1: the file has more than 262144 bytes; move a part of it into a preset`},

	{"nothing", "# only words\ndescription: \"nothing\" keep: 3 exclude: \"/a\"", `1:1: the file asks for nothing; write programs: "/usr/bin/program", or what else the jail needs`},
	{"newline in description", `description: "a\nb"`, `1:14: description holds "\n"; write one line of printable text`},
	{"empty description", `description: ""`, `1:14: description is empty; remove the field, or write what it should be`},

	{"preset with a slash", `include: "../web"`, `1:10: "../web" cannot be the name of a preset; write up to 63 of a-z 0-9 _ . -, a letter or digit first`},
	{"preset with its suffix and a blank", `include: "dns.txtpb "`, `1:10: "dns.txtpb " cannot be the name of a preset; write up to 63 of a-z 0-9 _ . -, a letter or digit first`},
	{"empty preset", `include: ""`, `1:10: "" cannot be the name of a preset; write up to 63 of a-z 0-9 _ . -, a letter or digit first`},

	{"relative program", `programs: "bin/ls"`, `1:11: programs "bin/ls" is not an absolute path; write it from the / of the host`},
	{"program here", `programs: "./ls"`, `1:11: programs "./ls" is not an absolute path; write it from the / of the host`},
	{"empty program", `programs: ""`, `1:11: "" is no program; write "/usr/bin/program", or the name alone`},
	{"program .", `programs: "."`, `1:11: "." is no program; write "/usr/bin/program", or the name alone`},
	{"program ..", `programs: ["ls", ".."]`, `1:18: ".." is no program; write "/usr/bin/program", or the name alone`},
	{"unclean program", `programs: "/usr/bin/../sbin/x"`, `1:11: programs "/usr/bin/../sbin/x" has an element too many; write "/usr/sbin/x"`},
	{"program /", `programs: "/"`, `1:11: programs cannot be "/"; name something beneath it`},
	{"long program", `programs: "` + strings.Repeat("x", 256) + `"`, `1:11: programs is longer than any path; write at most 4095 bytes, 255 between two /`},

	{"package like an option", `packages: "-x"`, `1:11: "-x" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"package with a blank", `packages: ["a", "b c"]`, `1:17: "b c" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"package with a version", `packages: "bash=5.2"`, `1:11: "bash=5.2" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"package with a slash", `packages: "a/stable"`, `1:11: "a/stable" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"package with a newline", `packages: "a\n"`, `1:11: "a\n" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"empty package", `packages: ""`, `1:11: "" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"package of two architectures", `packages: "libc6:i386:amd64"`, `1:11: "libc6:i386:amd64" is no name of a package; write it as dpkg-query, rpm -q or apk info does, without a version`},
	{"dependencies of nothing", `with_dependencies: true`, `1:20: with_dependencies is about packages, and this file names none; name packages, or remove it`},

	{"relative path", `paths: "etc/ssl"`, `1:8: paths "etc/ssl" is not an absolute path; write it from the / of the host`},
	{"empty path", `paths: ""`, `1:8: paths "" is not an absolute path; write it from the / of the host`},
	{"path with ..", `paths: "/etc/../root"`, `1:8: paths "/etc/../root" has an element too many; write "/root"`},
	{"path with a slash at its end", `paths: "/etc/"`, `1:8: paths "/etc/" has an element too many; write "/etc"`},
	{"path /", `paths: "/"`, `1:8: paths cannot be "/"; name something beneath it`},
	{"unclean path, not UTF-8", `paths: "/a\n//\377"`, `1:8: paths "/a\n//\xff" has an element too many; write "/a\n/\xff"`},
	{"long path", `paths: "` + strings.Repeat("/x", 2048) + `"`, `1:8: paths is longer than any path; write at most 4095 bytes, 255 between two /`},
	{"long name", `paths: "/` + strings.Repeat("x", 256) + `"`, `1:8: paths is longer than any path; write at most 4095 bytes, 255 between two /`},
	{"open range", `paths: "/usr/bin/["`, `1:8: paths "/usr/bin/[" is no pattern; end the range with "]", or write "\\[" and "\\\\" where a name has them`},
	{"range over a slash", `paths: "/usr/[a/b]"`, `1:8: paths "/usr/[a/b]" is no pattern; end the range with "]", or write "\\[" and "\\\\" where a name has them`},
	{"backslash at an end", `paths: "/usr/a\\/b"`, `1:8: paths "/usr/a\\/b" is no pattern; end the range with "]", or write "\\[" and "\\\\" where a name has them`},
	{"two stars", `paths: "/usr/**/x"`, `1:8: paths "/usr/**/x" has "**", which means no more than "*"; write one * for each directory on the way: "/usr/*/*"`},
	{"two stars in a name", `paths: "/usr/a[*]**"`, `1:8: paths "/usr/a[*]**" has "**", which means no more than "*"; write one * for each directory on the way: "/usr/*/*"`},
	{"relative optional path", `optional_paths: "etc"`, `1:17: optional_paths "etc" is not an absolute path; write it from the / of the host`},
	{"optional path /", `optional_paths: "/"`, `1:17: optional_paths cannot be "/"; name something beneath it`},
	{"optional pattern", `optional_paths: "/[]"`, `1:17: optional_paths "/[]" is no pattern; end the range with "]", or write "\\[" and "\\\\" where a name has them`},
	{"relative exclude", `exclude: "doc"`, `1:10: exclude "doc" is not an absolute path; write it from the / of the host`},
	{"exclude everything", `exclude: "/"`, `1:10: exclude cannot be "/"; name something beneath it`},
	{"exclude pattern", `exclude: "/**"`, `1:10: exclude "/**" has "**", which means no more than "*"; write one * for each directory on the way: "/usr/*/*"`},

	{"user with a colon", `users: "a:b"`, `1:8: "a:b" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"user with a newline", `users: ["daemon", "a\nb"]`, `1:19: "a\nb" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"user like an option", `users: "-s"`, `1:8: "-s" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"empty user", `users: ""`, `1:8: "" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"user -1", `users: "4294967295"`, `1:8: user "4294967295" is 4294967295, which is no id to the kernel; write another`},
	{"group with a comma", `groups: "a,b"`, `1:9: "a,b" is no name of a group; write a name, or a number from 0 to 4294967294`},
	{"group -1", `groups: "4294967295"`, `1:9: group "4294967295" is 4294967295, which is no id to the kernel; write another`},

	{"unknown device", `devices: "sda"`, `1:10: there is no device "sda" for a jail; the devices are full, null, random, tty, urandom, zero`},
	{"device by path", `devices: "/dev/null"`, `1:10: there is no device "/dev/null" for a jail; write "null"; the devices are full, null, random, tty, urandom, zero`},
	{"device with a mistake", `devices: ["null", "uradnom"]`, `1:19: there is no device "uradnom" for a jail; write "urandom"; the devices are full, null, random, tty, urandom, zero`},

	{"directory without path", "directories { }", `1:1: the directory has no path; write path: "/...", where it is in the jail`},
	{"relative directory", `directories { path: "data" }`, `1:21: path "data" is not an absolute path; write it from the / of the jail`},
	{"empty directory", `directories { path: "" }`, `1:21: path is empty; remove the field, or write what it should be`},
	{"directory with ..", `directories { path: "/data/../etc" }`, `1:21: path "/data/../etc" has an element too many; write "/etc"`},
	{"decimal mode", `directories { path: "/data" mode: 755 }`, `1:35: mode 755 has no leading 0, so it is decimal; write 0755, or 01363 for that number`},
	{"quoted mode", `directories { path: "/data" mode: "0755" }`, `1:35: mode cannot be "0755"; write mode: octal digits with a leading 0, at most 01777`},
	{"set-uid directory", `directories { path: "/data" mode: 04755 }`, `1:35: mode 04755 is more than 01777; write one from 0 to 01777`},
	{"set-gid directory", `directories { path: "/data" mode: 02755 state: true }`, `1:35: mode 02755 is more than 01777; write one from 0 to 01777`},
	{"directory for its group", `directories { path: "/data" mode: 0775 }`, `1:35: with mode 0775 others can write in "/data", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory for all but its group", `directories { path: "/data" mode: 0757 }`, `1:35: with mode 0757 others can write in "/data", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory for everyone", `directories { path: "/tmp" mode: 01777 }`, `1:34: with mode 01777 others can write in "/tmp", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory of a user", `directories { path: "/data" owner: "daemon" }`, `1:36: user "daemon" can write in "/data", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory of a user who may not write, yet", `directories { path: "/data" owner: "1" mode: 0555 }`, `1:36: user "1" can write in "/data", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory of a group", `directories { path: "/data" owner: "root" group: "adm" mode: 0770 }`, `1:50: group "adm" can write in "/data", and what they write would be lost at the next build; write state: true, and builds leave alone what is in it; or let only root write there`},
	{"directory of nobody", `directories { path: "/data" owner: "nobody-here" }`, `1:36: there is no user "nobody-here": unknown name; create the account, or write a number`},
	{"directory of no group", `directories { path: "/data" group: "nogroup-here" mode: 0777 }`, `1:36: there is no group "nogroup-here": unknown name; create the group, or write a number`},
	{"bad owner", `directories { path: "/data" owner: "a:b" state: true }`, `1:36: "a:b" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"empty owner", `directories { path: "/data" owner: "" }`, `1:36: owner is empty; remove the field, or write what it should be`},
	{"owner -1", `directories { path: "/data" owner: "4294967295" state: true }`, `1:36: user "4294967295" is 4294967295, which is no id to the kernel; write another`},
	{"bad group", `directories { path: "/data" group: "a\nb" state: true }`, `1:36: "a\nb" is no name of a group; write a name, or a number from 0 to 4294967294`},
	{"root of a user", `directories { path: "/" owner: "daemon" }`, `1:32: "/" must be root's, writable by nobody else, and no state; name a directory beneath it`},
	{"root for everyone", `directories { path: "/" mode: 0777 state: true }`, `1:31: "/" must be root's, writable by nobody else, and no state; name a directory beneath it`},
	{"root as state", `directories { path: "/" state: true }`, `1:32: "/" must be root's, writable by nobody else, and no state; name a directory beneath it`},
	{"state in state", "directories { path: \"/a\" state: true }\ndirectories { path: \"/a/b/c\" state: true }", `2:1: "/a/b/c" is in the state directory "/a" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"directory in state", "directories { path: \"/a/b\" }\ndirectories { path: \"/a\" state: true }", `1:1: "/a/b" is in the state directory "/a" of line 2, which builds leave alone; remove one of the two, or move it`},
	{"file in state", "directories { path: \"/a\" state: true }\nfiles { path: \"/a/b\" }", `2:1: "/a/b" is in the state directory "/a" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"symlink in state", "directories { path: \"/a\" state: true }\nsymlinks { path: \"/a/b/c\" target: \"x\" }", `2:1: "/a/b/c" is in the state directory "/a" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"device in state", "directories { path: \"/dev\" state: true }\ndevices: [\"null\"]", `2:11: "/dev/null" is in the state directory "/dev" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"accounts in state", "directories { path: \"/etc\" state: true }\ngroups: \"adm\"", `2:9: "/etc/passwd" is in the state directory "/etc" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"path in state", "directories { path: \"/a\" state: true }\npaths: \"/a/*\"", `2:8: "/a/*" is in the state directory "/a" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"path of state", "directories { path: \"/a\" state: true }\noptional_paths: \"/a\"", `2:17: "/a" is in the state directory "/a" of line 1, which builds leave alone; remove one of the two, or move it`},
	{"program in state", "directories { path: \"/opt\" state: true }\nprograms: \"/opt/bin/x\"", `2:11: "/opt/bin/x" is in the state directory "/opt" of line 1, which builds leave alone; remove one of the two, or move it`},

	{"symlink without path", `symlinks { target: "x" }`, `1:1: the symlink has no path; write path: "/...", where it is in the jail`},
	{"symlink without target", `symlinks { path: "/a" }`, `1:1: the symlink has no target; write target: "...", what it stands for`},
	{"symlink with an empty target", `symlinks { path: "/a" target: "" }`, `1:31: target is empty; remove the field, or write what it should be`},
	{"symlink with a long target", `symlinks { path: "/a" target: "` + strings.Repeat("x", 4096) + `" }`, `1:31: target is longer than any path; write one of at most 4095 bytes`},
	{"symlink /", `symlinks { path: "/" target: "x" }`, `1:18: path cannot be "/"; name something beneath it`},
	{"relative symlink", `symlinks { path: "a" target: "x" }`, `1:18: path "a" is not an absolute path; write it from the / of the jail`},

	{"file without path", `files { text: "x" }`, `1:1: the file has no path; write path: "/...", where it is in the jail`},
	{"file /", `files { path: "/" text: "x" }`, `1:15: path cannot be "/"; name something beneath it`},
	{"unclean file", `files { path: "/etc//motd" }`, `1:15: path "/etc//motd" has an element too many; write "/etc/motd"`},
	{"set-uid file", `files { path: "/a" mode: 04755 }`, `1:26: mode 04755 is more than 0755; write one from 0 to 0755`},
	{"file for its group", `files { path: "/a" mode: 0664 }`, `1:26: with mode 0664 others could write to a file that is the build's; write 0644, and keep what is written at run time in a directory with state: true`},
	{"file for everyone", `files { path: "/a" mode: 0646 }`, `1:26: with mode 0646 others could write to a file that is the build's; write 0644, and keep what is written at run time in a directory with state: true`},
	{"decimal mode of a file", `files { path: "/a" mode: 644 }`, `1:26: mode 644 has no leading 0, so it is decimal; write 0644`},
	{"file beneath a file", "files { path: \"/a\" }\nfiles { path: \"/a/b\" }", `2:1: "/a/b" is beneath "/a", which is the file that line 1 asks for; remove one of the two`},
	{"file beneath a device", "devices: \"tty\"\nfiles { path: \"/dev/tty/b\" }", `2:1: "/dev/tty/b" is beneath "/dev/tty", which is the device that line 1 asks for; remove one of the two`},
	{"directory beneath a symlink", "symlinks { path: \"/var/run\" target: \"/run\" }\ndirectories { path: \"/var/run/a/b\" }", `2:1: "/var/run/a/b" is beneath "/var/run", which is the symlink that line 1 asks for; name the directory that the symlink stands for`},
	{"device beneath a symlink", "symlinks { path: \"/dev\" target: \"d\" } devices: \"null\"", `1:48: "/dev/null" is beneath "/dev", which is the symlink that line 1 asks for; name the directory that the symlink stands for`},
	{"file and directory", "files { path: \"/a\" }\ndirectories { path: \"/a\" }", `1:15: "/a" is asked for in line 2 too; keep one of the two`},
	{"symlink twice", "symlinks { path: \"/a\" target: \"b\" }\nsymlinks { path: \"/a\" target: \"b\" }", `2:18: "/a" is asked for in line 1 too; keep one of the two`},
	{"directory and symlink", "directories { path: \"/a\" }\nsymlinks { path: \"/a\" target: \"b\" }", `2:18: "/a" is asked for in line 1 too; keep one of the two`},
	{"file and device", "devices: [\"null\", \"null\"]\nfiles { path: \"/dev/null\" }", `2:1: "/dev/null" is a file, and line 1 makes it a device; remove one of the two`},
	{"file and accounts", "users: \"daemon\" users: \"games\"\nfiles { path: \"/etc/group\" }", `2:1: "/etc/group" is a file, and line 1 makes it a list of accounts; remove one of the two`},

	{"relative archive", `archive: "alpine.tar"`, `1:10: archive "alpine.tar" is not an absolute path; write it from the / of the host`},
	{"archive /", `archive: "/"`, `1:10: archive cannot be "/"; name something beneath it`},
	{"empty archive", `archive: ""`, `1:10: archive is empty; remove the field, or write what it should be`},
	{"unclean archive", `archive: "/srv/./alpine.tar"`, `1:10: archive "/srv/./alpine.tar" has an element too many; write "/srv/alpine.tar"`},

	{"keep too many", `keep: 101`, `1:7: keep 101 is more than 100; write a number from 0 to 100`},
	{"keep -1", `keep: -1`, `1:7: keep cannot be "-1"; write keep: a whole number from 0 to 100, without quotes`},
	{"keep all", `keep: "all"`, `1:7: keep cannot be "all"; write keep: a whole number from 0 to 100, without quotes`},
}

func TestMistakes(t *testing.T) {
	for _, test := range mistakes {
		t.Run(test.name, func(t *testing.T) {
			text := test.text
			if !strings.Contains(text, "programs:") && test.name != "nothing" {
				text += "\nprograms: \"sh\""
			}
			problems := Check("web.txtpb", []byte(text))
			if len(problems) != 1 {
				t.Fatalf("problems %v", problems)
			}
			if got := problems[0].Error(); got != "web.txtpb:"+test.want {
				t.Errorf("\n got %s\nwant web.txtpb:%s", got, test.want)
			}
		})
	}
}

// TestRight has what looks like a mistake and is none.
func TestRight(t *testing.T) {
	for _, text := range []string{
		`paths: "/usr/a\\**"`,
		`paths: "/usr/[**]"`,
		`paths: "/usr/bin/\\["`,
		`paths: "/a b\n;$(id)\377"`,
		`files { path: "/a" text: "" }`,
		`files { path: "/a*" text: "\0" mode: 0 }`,
		`programs: "["`,
		`packages: ["libc6:i386", "g++-12", "python3.11", "java_x"]`,
		`directories { path: "/a" owner: "daemon" mode: 01777 state: true } directories { path: "/ab" }`,
		`directories { path: "/a" owner: "0" group: "adm" mode: 0750 } files { path: "/a/b" }`,
		`symlinks { path: "/a" target: "../.." } programs: "/a/b"`,
		`devices: ["null", "null"] users: ["daemon", "1"] keep: 0`,
		`include: "any"`,
		`keep: 100 archive: "/a"`,
	} {
		if problems := Check("web.txtpb", []byte(text)); problems != nil {
			t.Errorf("%s: %v", text, problems)
		}
	}
}

// TestAllMistakes wants all told at once, in the order of the text.
func TestAllMistakes(t *testing.T) {
	const text = `files { path: "/a/b" } devices: "sda"
users: "a:b"
directories { path: "/a" state: true mode: 755 }
paths: "/a/c"
rubbish: 1
`
	want := []string{
		`web.txtpb:1:1: "/a/b" is in the state directory "/a" of line 3, which builds leave alone; remove one of the two, or move it`,
		`web.txtpb:1:33: there is no device "sda" for a jail; the devices are full, null, random, tty, urandom, zero`,
		`web.txtpb:2:8: "a:b" is no name of a user; write a name, or a number from 0 to 4294967294`,
		`web.txtpb:3:44: mode 755 has no leading 0, so it is decimal; write 0755, or 01363 for that number`,
		`web.txtpb:4:8: "/a/c" is in the state directory "/a" of line 3, which builds leave alone; remove one of the two, or move it`,
		`web.txtpb:5:1: unknown field rubbish; the fields here are description, include, programs, packages, with_dependencies, paths, optional_paths, users, groups, devices, directories, symlinks, files, archive, exclude, keep`,
	}
	var got []string
	for _, p := range Check("web.txtpb", []byte(text)) {
		got = append(got, p.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestNames holds the file to the name of a jail.
func TestNames(t *testing.T) {
	for _, name := range []string{"Web.txtpb", ".txtpb", "/etc/-web.txtpb", "web.text/.txtpb"} {
		problems := Check(name, []byte(`programs: "sh"`))
		if len(problems) != 1 || !strings.Contains(problems[0].What, "cannot be the name of a jail or preset") {
			t.Errorf("%q: %v", name, problems)
		}
	}
}
