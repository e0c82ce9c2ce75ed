package source

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mistakes has one mistake in each text, and where and how it is told. The file
// is web.txtpb; a text that has no root or rules of its own gets them, in its
// last line.
var mistakes = []struct {
	name, text, want string
}{
	{"unknown field", "\n  roots: 1", `2:3: unknown field roots; write root`},
	{"unknown field unlike any", "xyzzy { a { b: [1, 2] } }", `1:1: unknown field xyzzy; the fields here are description, root, rules, default_command, environment, working_directory, limits, umask, confine, audit_required`},
	{"unknown extension", "[a.b]: 1", `1:1: unknown field [a.b]; the fields here are description, root, rules, default_command, environment, working_directory, limits, umask, confine, audit_required`},
	{"field by number", "2: \"/r\"", `1:1: unknown field 2; the fields here are description, root, rules, default_command, environment, working_directory, limits, umask, confine, audit_required`},
	{"duplicate scalar", "umask: 022\numask: 022", `2:1: umask stands in line 1 already; keep one of the two`},
	{"duplicate message", "limits { }\nlimits { }", `2:1: limits stands in line 1 already; keep one of the two`},
	{"bad bool", "audit_required: maybe", `1:17: audit_required cannot be "maybe"; write audit_required: true or false`},
	{"quoted number", "umask: \"022\"", `1:8: umask cannot be "022"; write umask: octal digits with a leading 0, at most 0777`},
	{"negative number", "limits { open_files: -5 }", `1:22: open_files cannot be "-5"; write open_files: a whole number from 0 to 18446744073709551615, without quotes`},
	{"number too large", "limits { core: 18446744073709551616 }", `1:16: core cannot be "18446744073709551616"; write core: a whole number from 0 to 18446744073709551615, without quotes`},
	{"fraction", "limits { core: 1.5 }", `1:16: core cannot be "1.5"; write core: a whole number from 0 to 18446744073709551615, without quotes`},
	{"unquoted text", "default_command: /bin/sh", `1:18: default_command cannot be "/bin/sh"; write default_command: a text in quotes ("...")`},
	{"bad escape", `description: "a\qb"`, `1:14: description cannot be read: invalid escape code "\\q" in string; write \\ for a backslash, and text in UTF-8`},
	{"escape to no UTF-8", `description: "a\xff"`, `1:14: description cannot be read: contains invalid UTF-8; write \\ for a backslash, and text in UTF-8`},
	{"message for a scalar", "umask { }", `1:1: ":" is missing after umask; write umask: and the value`},
	{"message after a colon for a scalar", "umask: { }", `1:8: umask is a single value; write umask: octal digits with a leading 0, at most 0777`},
	{"scalar for a message", "limits: 5", `1:9: limits is not a single value; write limits { ... }`},
	{"list for a single", "umask: [022]", `1:1: umask is one value, not a list; remove the brackets`},
	{"empty list", "rules { users: \"*\" deny: true commands { path: \"/a\" args: [] } }", `1:53: args is an empty list; write no_args: true to forbid arguments`},
	{"no colon", "umask 022", `1:1: ":" is missing after umask; write umask: and the value`},

	{"equals for colon", `umask = 022`, `1:7: ":" is missing after umask; write ":" in place of "="`},
	{"equals for a message", `limits = { }`, `1:8: ":" is missing after limits; write ":" in place of "="`},
	{"octal digits", "umask: 0888", `1:8: umask cannot be "0888"; write umask: octal digits with a leading 0, at most 0777`},
	{"unit", "limits { address_space: 1G }", `1:25: address_space cannot be "1G"; write 1073741824`},
	{"unit in quotes", `limits { core: "10 kB" }`, `1:16: core cannot be "10 kB"; write 10240`},
	{"no comma between arguments", `rules { users: "*" deny: true commands { path: "/a" args: ["-u" "-n"] } }`, `1:65: two texts side by side are one text; write a comma between them`},
	{"arguments without a list", `rules { users: "*" deny: true commands { path: "/a" args: "-u" '-n' } }`, `1:64: two texts side by side are one text; write one text, or a list: ["...", "..."]`},
	{"text in two lines", "description: \"one\" # a comment\n ' line'", `2:2: two texts side by side are one text; write one text, or a list: ["...", "..."]`},

	{"no closing brace within", "rules {\n  users: \"*\"\n  commands {\n    path: \"/a\"\n  deny: true\n}\nlimits { }\n", `3:12: what is opened here is never closed; write "}" where it ends`},
	{"no closing brace", "rules {\n  users: \"*\"\n", `1:7: what is opened here is never closed; write "}" where it ends`},
	{"brace too many", "umask: 022\n}", `2:1: "}" stands where a field is expected; remove it, or open what it closes`},
	{"wrong brace", "limits { >", `1:10: ">" stands where a field is expected; remove it, or open what it closes`},
	{"no closing quote", "description: \"a\nb\"", `1:14: the text in quotes is not closed; write " where it ends, in the same line`},
	{"no closing bracket", "root: \"/r\" rules [ { }", `1:18: what is opened here is never closed; write "]" where it ends`},
	{"no comma in a list", "rules { users: [ \"a\" b ] }", `1:22: "b" stands in a list; write "," between two values and "]" after the last`},
	{"comma at the end of a list", "rules { users: [ \"a\", ] }", `1:23: the list ends after a comma; remove the "," before it`},
	{"no value", "umask:\n}", `1:1: umask has no value; give it one, or remove it`},
	{"no field name", "= 5", `1:1: "=" stands where a field is expected; write the name of a field`},
	{"too deep", strings.Repeat("a {", 40), `1:99: messages are nested more than 32 deep; remove it`},
	{"NUL in the text", "umask: 022\x00", `1:11: there is a NUL byte here; remove it`},
	{"byte order mark", "\ufeffumask: 022", `1:1: the file begins with a byte order mark; save it as UTF-8 without one`},
	{"not UTF-8", "# \u00e9\u00e9\xe9", `1:5: byte 0xe9 is not UTF-8; save the file as UTF-8`},
	{"too large", strings.Repeat("#", MaxText-42), `1:1: the file has more than 262144 bytes; split it into several jails`},

	{"too large when compiled", "rules { users: [" + strings.Repeat(`"alice",`, 30000) + `"*"] deny: true }`, `1:1: the compiled form has N bytes, more than 1048576; name groups in place of users, or split it into several jails`},

	{"no root", "rules { users: \"*\" deny: true }", `1:1: there is no root; write root: "/srv/jails/web", or where the jail is`},
	{"relative root", `root: "srv"`, `1:7: root "srv" is not an absolute path; write it from the / of the host`},
	{"root with ..", `root: "/srv/../etc"`, `1:7: root "/srv/../etc" has an element too many; write "/etc"`},
	{"unclean root", `root: "/srv//web/"`, `1:7: root "/srv//web/" has an element too many; write "/srv/web"`},
	{"root of the host", `root: "/"`, `1:7: root cannot be "/"; name a directory that holds the jail alone`},
	{"root with a newline", `root: "/a\nb"`, `1:7: root "/a\nb" holds control characters; use a path without them`},
	{"empty root", `root: ""`, `1:7: root is empty; remove the field, or write what it should be`},
	{"NUL in a value", `root: "/srv\0"`, `1:7: root holds a NUL byte; remove it`},
	{"newline in description", `description: "a\nb"`, `1:14: description holds "\n"; write one line of printable text`},
	{"relative default command", `default_command: "sh"`, `1:18: default_command "sh" is not an absolute path; write it from the / of the jail`},
	{"relative working directory", `working_directory: "data"`, `1:20: working_directory "data" is not an absolute path; write it from the / of the jail`},
	{"umask too large", `umask: 01000`, `1:8: umask 01000 is more than 0777; write one from 0 to 0777`},
	{"decimal umask", `umask: 77`, `1:8: umask 77 has no leading 0, so it is decimal; write 077, or 0115 for that number`},
	{"unknown promise", `confine { promises: "stdio rpaht" }`, `1:21: unknown promise "rpaht"; the promises are stdio, rpath, wpath, cpath, dpath, tmppath, inet, unix, dns, getpw, fattr, chown, flock, sendfd, recvfd, tty, proc, exec, prot_exec, id`},
	{"no promise", `confine { promises: "" }`, `1:21: promises is empty; remove the field, or write what it should be`},
	{"blank promises", `confine { promises: " " }`, `1:21: no program starts without the promise stdio; add stdio`},
	{"promises without stdio", `confine { promises: "rpath exec" }`, `1:21: no program starts without the promise stdio; add stdio`},
	{"promise twice", `confine { promises: "stdio exec stdio" }`, `1:21: promise stdio is there twice; remove one`},
	{"inet without network", `confine { network: false promises: "stdio inet" }`, `1:36: promise inet without a network; add network: true, or remove the promise`},
	{"dns without network", `confine { promises: "stdio dns" }`, `1:21: promise dns without a network; add network: true, or remove the promise`},
	{"dns and ports", `confine { network: true promises: "stdio inet dns" network_ports { connect: 443 } }`, `1:35: promise dns is for UDP, which port rules close; remove one of the two`},
	{"unix without local sockets", `confine { network: true promises: "stdio unix" }`, `1:35: promise unix without local sockets; add local_sockets: true, or remove the promise`},
	{"violation without promises", `confine { violation: KILL }`, `1:22: violation says what happens to what is not promised, and there are no promises; add promises, or remove it`},
	{"unknown violation", `confine { promises: "stdio" violation: LOG }`, `1:40: violation cannot be "LOG"; write violation: one of EPERM, KILL`},
	{"violation as a number", `confine { promises: "stdio" violation: 2 }`, `1:40: violation cannot be "2"; write violation: one of EPERM, KILL`},
	{"ports without network", `confine { network_ports { connect: 443 } }`, `1:11: port rules without a network; add network: true`},
	{"no ports", `confine { network: true network_ports { } }`, `1:25: network_ports without a port; name ports, or write network: false in place of it`},
	{"port 70000", `confine { network: true network_ports { connect: [443, 70000] } }`, `1:56: connect 70000 is no TCP port; write a number from 1 to 65535`},
	{"port 0 to connect to", `confine { network: true network_ports { connect: 0 } }`, `1:50: connect 0 is no TCP port; write a number from 1 to 65535`},
	{"port -1", `confine { network: true network_ports { bind: -1 } }`, `1:47: bind cannot be "-1"; write bind: a whole number from 0 to 65535, without quotes`},
	{"port twice", `confine { network: true network_ports { bind: 80 bind: 80 } }`, `1:56: bind 80 is there twice; remove one`},
	{"port by name", `confine { network: true network_ports { connect: "https" } }`, `1:50: connect cannot be "https"; write connect: a whole number from 0 to 65535, without quotes`},
	{"unveil of ..", `confine { unveil { path: "/data/../etc" access: "r" } }`, `1:26: path "/data/../etc" has an element too many; write "/etc"`},
	{"relative unveil", `confine { unveil { path: ".." access: "r" } }`, `1:26: path ".." is not an absolute path; write it from the / of the jail`},
	{"unveil of nothing", `confine { unveil { access: "r" } }`, `1:11: the unveil has no path; write path: "/usr"`},
	{"unveil for nothing", `confine { unveil { path: "/a" } }`, `1:11: the unveil has no access; write access: "r", or more letters of rwxc`},
	{"unveil for an empty text", `confine { unveil { path: "/a" access: "" } }`, `1:39: access is empty; remove the field, or write what it should be`},
	{"unknown letter", `confine { unveil { path: "/a" access: "rd" } }`, `1:39: access "rd" holds "d"; write letters of rwxc: read, write, execute, create and remove`},
	{"letter twice", `confine { unveil { path: "/a" access: "rwr" } }`, `1:39: access "rwr" holds "r" twice; write each letter once`},
	{"x alone", `confine { unveil { path: "/a" access: "x" } }`, `1:39: access "x" executes nothing: Linux does not execute what it may not read; write "rx"`},
	{"unveil twice", "confine { unveil { path: \"/a\" access: \"r\" }\nunveil { path: \"/a\" access: \"w\" } }", `2:16: /a is unveiled in line 1 already; write one unveil with all letters`},
	{"less beneath", "confine { unveil { path: \"/\" access: \"rwxc\" }\nunveil { path: \"/etc\" access: \"r\" } }", `2:31: /etc cannot have less than / above it (line 1): rights add up; unveil what else is needed of / in place of / itself`},
	{"a list of confine", `confine [ { }, { } ]`, `1:1: confine is one value, not a list; remove the brackets`},
	{"confine twice", "confine { }\nconfine { }", `2:1: confine stands in line 1 already; keep one of the two`},
	{"confine in a rule that denies", `rules { users: "*" deny: true confine { promises: "stdio" } }`, `1:31: a rule that denies has nothing to confine; remove one of the two`},
	{"mistake in the confine of a rule", `rules { users: "*" run_as { caller: true } confine { promises: "exec" } }`, `1:64: no program starts without the promise stdio; add stdio`},

	{"no rules", `root: "/r"`, `1:1: there are no rules, so nobody may run anything; write rules { ... }: who may run what as whom`},
	{"rule for nobody", `rules { deny: true }`, `1:1: the rule is for nobody; write users: "NAME" or groups: "NAME"; "*" is everyone`},
	{"permit without target", `rules { users: "*" }`, `1:1: the rule does not say whom the command runs as; write run_as { user: "NAME" } or run_as { caller: true }, or deny: true`},
	{"deny with target", `rules { users: "*" deny: true run_as { user: "daemon" } }`, `1:31: a rule that denies has no run_as; remove run_as, or remove deny`},
	{"unknown user", `rules { users: ["alice", "bob"] deny: true }`, `1:26: there is no user "bob" on this host; correct the name, or create it first`},
	{"unknown group", `rules { groups: "gang" deny: true }`, `1:17: there is no group "gang" on this host; correct the name, or create it first`},
	{"user like an option", `rules { users: "-s" deny: true }`, `1:16: "-s" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"empty user", `rules { users: "" deny: true }`, `1:16: "" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"user number too large", `rules { users: "4294967296" deny: true }`, `1:16: "4294967296" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"user number with zeros", `rules { users: "007" deny: true }`, `1:16: "007" is no name of a user; write a name, or a number from 0 to 4294967294`},
	{"caller -1", `rules { users: "4294967295" deny: true }`, `1:16: user "4294967295" is 4294967295, which is no id to the kernel; write another`},
	{"caller group -1", `rules { groups: "4294967295" deny: true }`, `1:17: group "4294967295" is 4294967295, which is no id to the kernel; write another`},
	{"name service down", `rules { users: "hanging" deny: true }`, `1:16: cannot look up user "hanging": no answer within 20s; mend the name service, or write the number`},
	{"target root", `rules { users: "*" run_as { user: "root" group: "daemon" } }`, `1:35: user "root" is uid 0: root leaves any chroot; name a user with few rights, best one for this jail`},
	{"target 0", `rules { users: "*" run_as { user: "0" group: "1" } }`, `1:35: user "0" is uid 0: root leaves any chroot; name a user with few rights, best one for this jail`},
	{"target with uid 0 by another name", `rules { users: "*" run_as { user: "toor" } }`, `1:35: user "toor" is uid 0: root leaves any chroot; name a user with few rights, best one for this jail`},
	{"target -1", `rules { users: "*" run_as { user: "minus" } }`, `1:35: user "minus" is 4294967295, which is no id to the kernel; write another`},
	{"primary group 0", `rules { users: "*" run_as { user: "wheely" } }`, `1:35: the primary group of user "wheely" is gid 0; name a group with few rights`},
	{"target group 0", `rules { users: "*" run_as { user: "daemon" group: "root" } }`, `1:51: group "root" is gid 0; name a group with few rights`},
	{"supplementary group 0", `rules { users: "*" run_as { user: "daemon" groups: ["webdev", "0"] } }`, `1:63: group "0" is gid 0; name a group with few rights`},
	{"target group -1", `rules { users: "*" run_as { user: "daemon" group: "4294967295" } }`, `1:51: group "4294967295" is 4294967295, which is no id to the kernel; write another`},
	{"target without account", `rules { users: "*" run_as { user: "4711" } }`, `1:35: user 4711 has no account, hence no primary group; write group: "NAME" beside it`},
	{"empty run_as", `rules { users: "*" run_as { } }`, `1:20: run_as names no user; write user: "NAME", or caller: true alone`},
	{"run_as without user", `rules { users: "*" run_as { group: "daemon" } }`, `1:20: run_as names no user; write user: "NAME", or caller: true alone`},
	{"caller and user", `rules { users: "*" run_as { caller: true user: "daemon" } }`, `1:48: user contradicts caller: the caller brings user and group, and no others; remove one of the two`},
	{"caller and group", `rules { users: "*" run_as { caller: true group: "daemon" } }`, `1:49: group contradicts caller: the caller brings user and group, and no others; remove one of the two`},
	{"caller and groups", `rules { users: "*" run_as { caller: true groups: "daemon" } }`, `1:50: groups contradicts caller: the caller brings user and group, and no others; remove one of the two`},
	{"root as caller and target", `rules { users: "root" run_as { caller: true } }`, `1:16: with caller: true user "root" would run as uid 0; remove the user, or name another target`},
	{"gid 0 as caller and target", `rules { users: "wheely" run_as { caller: true } }`, `1:16: with caller: true user "wheely" would run as gid 0; remove the user, or name another target`},
	{"empty end", `rules { users: "*" deny: true not_after: "" }`, `1:42: not_after is empty; remove the field, or write what it should be`},
	{"no such day", `rules { users: "*" deny: true not_after: "2027-02-30" }`, `1:42: not_after "2027-02-30" is neither day nor instant; write a day, "2027-01-31", or an instant, "2027-01-31T18:00:00Z"`},
	{"fraction of a second", `rules { users: "*" deny: true not_after: "2027-02-03T00:00:00.5Z" }`, `1:42: not_after "2027-02-03T00:00:00.5Z" is neither day nor instant; write a day, "2027-01-31", or an instant, "2027-01-31T18:00:00Z"`},
	{"the epoch, which would be for ever", `rules { users: "*" deny: true not_after: "1969-12-31" }`, `1:42: not_after "1969-12-31" is before 1970; write a later day, or deny: true`},

	{"command without path", `rules { users: "*" deny: true commands { args: "a" } }`, `1:31: the command has no path; write path: "/usr/bin/program"`},
	{"relative command", `rules { users: "*" deny: true commands { path: "ls" } }`, `1:48: path "ls" is not an absolute path; write it from the / of the jail`},
	{"unclean command", `rules { users: "*" deny: true commands { path: "/bin/./ls" } }`, `1:48: path "/bin/./ls" has an element too many; write "/bin/ls"`},
	{"command /", `rules { users: "*" deny: true commands { path: "/" } }`, `1:48: path "/" is a directory; name a program`},
	{"star in the middle", `rules { users: "*" deny: true commands { path: "/a" args: "*" args: "-q" } }`, `1:59: "*" is not the last of args; write one commands { } for each wording; "*" stands last, for any rest`},
	{"args and no_args", `rules { users: "*" deny: true commands { path: "/a" args: "a" no_args: true } }`, `1:72: no_args contradicts args; remove one of the two`},

	{"keep everything", `environment { keep: "*" }`, `1:21: keep "*" is no variable's name; write letters, digits and _, no digit first; "*" may end it`},
	{"keep the loader's", `environment { keep: "LD_PRELOAD" }`, `1:21: keep "LD_PRELOAD" would pass the loader's variables, with which a caller runs code of its own; give it a fixed value with set { }`},
	{"keep the loader's too", `environment { keep: "L*" }`, `1:21: keep "L*" would pass the loader's variables, with which a caller runs code of its own; give it a fixed value with set { }`},
	{"keep with =", `environment { keep: "A=b" }`, `1:21: keep "A=b" is no variable's name; write letters, digits and _, no digit first; "*" may end it`},
	{"set without name", `environment { set { value: "x" } }`, `1:15: the variable has no name; write name: "NAME"`},
	{"set a bad name", `environment { set { name: "1A" value: "x" } }`, `1:27: set "1A" is no variable's name; write letters, digits and _, no digit first`},
	{"set twice", "environment { set { name: \"A\" value: \"x\" }\nset { name: \"A\" value: \"y\" } }", `2:13: A is set in line 1 already; keep one of the two`},
	{"NUL in a variable", `environment { set { name: "A" value: "x\000" } }`, `1:38: value holds a NUL byte; remove it`},
	{"working directory in PATH", `environment { set { name: "PATH" value: "/bin:" } }`, `1:41: PATH has the element ""; write absolute directories of the jail with : between them`},

	{"too few files", `limits { open_files: 3 }`, `1:22: with open_files 3 no command can start; write at least 8, or remove it`},
	{"no processes", `limits { processes: 0 }`, `1:21: with processes 0 no command can start; write at least 1, or remove it`},
	{"too little memory", `limits { address_space: 64 }`, `1:25: with address_space 64 no command can start; write at least 1048576, or remove it`},
	{"no time", `limits { cpu_seconds: 0 }`, `1:23: with cpu_seconds 0 no command can start; write at least 1, or remove it`},
	{"no time on the clock", `limits { wall_seconds: 0 }`, `1:24: wall_seconds cannot be 0; write a number from 1 to 3162240000, or remove it`},
	{"time without end", `limits { wall_seconds: 18446744073709551615 }`, `1:24: wall_seconds cannot be 18446744073709551615; write a number from 1 to 3162240000, or remove it`},
}

var compiledSize = regexp.MustCompile(`form has \d+ bytes`)

func TestMistakes(t *testing.T) {
	for _, test := range mistakes {
		t.Run(test.name, func(t *testing.T) {
			text := test.text
			if !strings.Contains(text, "root:") && test.name != "no root" {
				text += "\nroot: \"/r\""
			}
			if !strings.Contains(text, "rules") && test.name != "no rules" {
				text += "\nrules { users: \"*\" deny: true }"
			}
			c, problems := Check("web.txtpb", []byte(text), fakeNames{})
			if c != nil || len(problems) != 1 {
				t.Fatalf("compiled %v, problems %v", c != nil, problems)
			}
			// How large the filter in it is has nothing to do with this.
			got := compiledSize.ReplaceAllString(problems[0].Error(), "form has N bytes")
			if got != "web.txtpb:"+test.want {
				t.Errorf("\n got %s\nwant web.txtpb:%s", got, test.want)
			}
		})
	}
}

// TestScanMistakes wants what was wrong before the end of the scan told with it.
func TestScanMistakes(t *testing.T) {
	_, problems := Check("web.txtpb", []byte("root = \"/r\"\ndescription: \"a\" \"b\"\nrules {\n"), fakeNames{})
	got := fmt.Sprint(problems)
	want := `[web.txtpb:1:6: ":" is missing after root; write ":" in place of "=" ` +
		`web.txtpb:2:18: two texts side by side are one text; write one text, or a list: ["...", "..."] ` +
		`web.txtpb:3:7: what is opened here is never closed; write "}" where it ends]`
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".web", "-web", "Web", "w b", strings.Repeat("a", 64), "w\u00e9b"} {
		_, problems := Check("/etc/"+name+Suffix, []byte(minimal), fakeNames{})
		if len(problems) != 1 || !strings.Contains(problems[0].What, "cannot be the name of a jail") {
			t.Errorf("%q: %v", name, problems)
		}
	}
	for _, name := range []string{"w", "0", "web-2.test_a", strings.Repeat("a", 63)} {
		if c, problems := Check(name+Suffix, []byte(minimal), fakeNames{}); c.GetName() != name {
			t.Errorf("%q: %v", name, problems)
		}
	}
}

// TestAllMistakes wants every mistake of a file told at once, in its order.
func TestAllMistakes(t *testing.T) {
	const text = `descripton: "a typing mistake"
root: "srv/web"
umask: 0999
rules {
  user: "alice"
  commands { path: "ls" args: "*" args: "x" }
  run_as { user: "root" group: "root" }
}
rules { users: "bob" }
rules { deny: maybe groups: "*" run_as { caller: true } }
environment { keep: "A B" set { name: "X" value: 5 } }
limits { open_files: 1 open_files: 2 cpu: 3 }
confine { unveil { access: "r" } }
`
	want := []string{
		"1:1: unknown field descripton; write description",
		"2:7: root \"srv/web\" is not an absolute path; write it from the / of the host",
		"3:8: umask cannot be \"0999\"; write umask: octal digits with a leading 0, at most 0777",
		"5:3: unknown field user; write users",
		"6:20: path \"ls\" is not an absolute path; write it from the / of the jail",
		"6:31: \"*\" is not the last of args; write one commands { } for each wording; \"*\" stands last, for any rest",
		"7:18: user \"root\" is uid 0: root leaves any chroot; name a user with few rights, best one for this jail",
		"7:32: group \"root\" is gid 0; name a group with few rights",
		"9:1: the rule does not say whom the command runs as; write run_as { user: \"NAME\" } or run_as { caller: true }, or deny: true",
		"9:16: there is no user \"bob\" on this host; correct the name, or create it first",
		"10:15: deny cannot be \"maybe\"; write deny: true or false",
		"11:21: keep \"A B\" is no variable's name; write letters, digits and _, no digit first; \"*\" may end it",
		"11:50: value cannot be \"5\"; write value: a text in quotes (\"...\")",
		"12:22: with open_files 1 no command can start; write at least 8, or remove it",
		"12:24: open_files stands in line 12 already; keep one of the two",
		"12:38: unknown field cpu; write cpu_seconds",
		"13:11: the unveil has no path; write path: \"/usr\"",
	}
	_, problems := Check("web.txtpb", []byte(text), fakeNames{})
	var got []string
	for _, p := range problems {
		got = append(got, strings.TrimPrefix(p.Error(), "web.txtpb:"))
	}
	for _, p := range missing(want, got) {
		t.Error("not told:", p)
	}
	for _, p := range missing(got, want) {
		t.Error("told:    ", p)
	}
	if !slices.Equal(got, want) && !t.Failed() {
		t.Error("told in another order")
	}
}
