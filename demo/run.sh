#!/bin/sh
# The demo that `make demo` runs: build, install into a directory of its own,
# make a jail, put a policy in force, and use it as an ordinary user. It needs
# Go, make, and root or sudo; the jail is made of programs of this machine.
#
# Each step is checked: the exit status is 0 only if all went as it should. When
# it ends, in whatever way, it has removed all that it made (the lines in the
# system's log stay).
#
# Run without arguments it builds, as whoever runs it, and then starts itself
# once more as root, with three: the place to install into, what was built, and
# the user whose part is played.
set -eu
umask 022
LC_ALL=C
export LC_ALL
cd "$(dirname "$0")/.."
# What the caller's make would pass on; GO stays.
unset MAKEFLAGS MAKEOVERRIDES MFLAGS BINDIR LIBEXECDIR STATEDIR MANDIR DESTDIR HELPER_GROUP

say() { printf '%s\n' "$*"; }
die() {
	say "demo: $*" >&2
	exit 1
}
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ $# -eq 0 ]; then
	# The paths are built in, so the place must have its name now. Root makes it,
	# and only if nobody else has.
	[ -d /opt ] || die "there is no /opt to install into"
	prefix=$(mktemp -u /opt/jailctl-demo.XXXXXX)
	built=$(mktemp -d)
	trap 'rm -rf -- "$built"' EXIT
	user=$(id -un)
	# With sudo it is the one who typed it; for root in person an account that every
	# Debian has plays the part.
	if [ "$(id -u)" -eq 0 ]; then user=${SUDO_USER:-games}; fi
	if [ "$user" = root ]; then user=games; fi

	say '== Build, as an ordinary program'
	command -v "${GO:-go}" >/dev/null || die "no go on the PATH; run make demo as the user who has it"
	# sudo asks before the build, not when nobody looks any more.
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "no sudo on the PATH; run make demo as root"
		sudo -v
	fi
	make --no-print-directory build PREFIX="$prefix" SYSCONFDIR="$prefix/etc" OUT="$built"
	if [ "$(id -u)" -eq 0 ]; then
		sh demo/run.sh "$prefix" "$built" "$user"
	else
		sudo -- sh demo/run.sh "$prefix" "$built" "$user"
	fi
	exit
fi

# From here on: root.
prefix=$1 built=$2 user=$3
[ "$(id -u)" -eq 0 ] || die "this part needs root"
case $prefix in
/opt/jailctl-demo.??????) ;;
*) die "not a place of the demo's: $prefix" ;;
esac
# No signal may come between the directory and the promise to remove it.
trap '' HUP INT TERM
mkdir -m 0755 -- "$prefix"
trap 'rm -rf --one-file-system -- "$prefix"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

output=$prefix/output
stranger=mail
target=daemon
jail=$prefix/jail
policy=$prefix/etc/jailctl/jails/demo.txtpb
PATH=$prefix/bin:$PATH
wrong=0

heading() { printf '\n== %s\n' "$*"; }

# as USER COMMAND... shows the command line, runs it, shows and keeps what it
# says, and notes its exit status.
as() {
	who=$1
	shift
	sign='$'
	if [ "$who" = root ]; then sign='#'; fi
	printf '%s%s' "$who" "$sign"
	for word; do
		case $word in
		*[!A-Za-z0-9_/.=+-]*) printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	printf '\n'
	status=0
	if [ "$who" = root ]; then
		"$@" >"$output" 2>&1 </dev/null || status=$?
	else
		# A login of theirs, but for the session: ids, groups and nothing of root's.
		(cd / && setpriv --reuid "$(id -u "$who")" --regid "$(id -g "$who")" --init-groups -- "$@") \
			>"$output" 2>&1 </dev/null || status=$?
	fi
	sed 's/^/    /' "$output"
}

# want STATUS [TEXT] checks what `as` ran: its exit status, and that its output
# has the text.
want() {
	if [ "$status" -ne "$1" ]; then
		say "demo: WRONG: the exit status is $status, and should be $1"
		wrong=1
	fi
	if [ $# -gt 1 ] && ! grep -qF -- "$2" "$output"; then
		say "demo: WRONG: the output should have: $2"
		wrong=1
	fi
}

# unwanted TEXT checks that the output of what `as` ran does not have the text.
unwanted() {
	if grep -qF -- "$1" "$output"; then
		say "demo: WRONG: the output should not have: $1"
		wrong=1
	fi
}

# programs NAME... copies programs of this machine into the jail's /bin, and the
# shared objects that ldd(1) says they need to where they are here. ldd may run
# what it looks at, so it gets only what root owns and nobody else can write.
programs() {
	for name; do
		program=$(readlink -f "$(command -v "$name")")
		[ -z "$(find "$program" \( ! -user root -o -perm /022 \) -print)" ] || die "$program is not only root's"
		install -D -m 0755 -- "$program" "$jail/bin/$name"
		ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*\) (0x[0-9a-f]*)$|\1|p' |
			while read -r object; do
				[ -e "$jail$object" ] || install -D -m 0755 -- "$(readlink -f "$object")" "$jail$object"
			done
	done
}

heading "Install into $prefix, the helper setuid root"
# Nothing is built as root: ":" stands in for go.
as root make -s install GO=: OUT="$built" PREFIX="$prefix" SYSCONFDIR="$prefix/etc"
want 0
as root ls -l "$prefix/bin" "$prefix/libexec/jailctl"
want 0 -rwsr-xr-x

heading "Make a jail of this machine's sh, id, ls and cat"
programs sh id ls cat
mkdir -m 0755 "$jail/etc"
say "hello from inside" >"$jail/etc/motd"
as root find "$jail" -type f
want 0 "$jail/bin/id"

heading "Write a policy"
cat >"$policy" <<END
description: "a demo"
root: "$jail"

# The first rule that matches caller and command decides; no rule matches: denied.
rules {
  users: "$user"
  commands { path: "/bin/id" no_args: true }
  commands { path: "/bin/ls" }
  commands { path: "/bin/cat" args: "/etc/motd" }
  run_as { user: "$target" }
}
default_command: "/bin/id"
limits { open_files: 64 cpu_seconds: 10 }
END
as root cat "$policy"
want 0
as root jailctl policy check demo
want 0 "no mistakes"

heading "It is not in force yet, so nobody may run anything"
as "$user" jailctl run demo id
want 125 "no jail of that name is open to you"

heading "Put it in force"
as root jailctl apply demo
want 0 "$user may now run"

heading "Run a command as $user: it is $target, in a / of its own"
as "$user" jailctl run demo id
want 0 "uid=$(id -u "$target")"
as "$user" jailctl run demo ls -l /
want 0 bin
unwanted opt
as "$user" jailctl run demo cat /etc/motd
want 0 "hello from inside"

heading "What the policy does not permit is denied, and the reason told"
as "$user" jailctl run demo cat /etc/passwd
want 125 "these arguments are not permitted ($policy:"
as "$user" jailctl run demo sh
want 125 'command "sh" is not permitted'
as "$user" jailctl run -u root demo id
want 125 'target "root:'

heading "A stranger learns nothing: a jail that exists reads like one that does not"
as "$stranger" jailctl run demo id
want 125 "no jail of that name is open to you"
cp "$output" "$output.exists"
as "$stranger" jailctl run no-such-jail id
want 125
cmp -s "$output" "$output.exists" || want 0 "the same line as before"
as "$stranger" jailctl list
want 1 "no jail is open to you"

heading "What may I run, and what would it be?"
as "$user" jailctl list
want 0 /bin/cat
as "$user" jailctl explain demo cat /etc/motd
want 0 "$policy:5"
as root jailctl explain --as "$stranger" demo id
want 1 denied

heading "An edited policy denies everything until it is applied"
sed -i 's|^  run_as|  commands { path: "/bin/sh" }\n  run_as|' "$policy"
as "$user" jailctl run demo id
want 125 "edited and is not in force"
as root jailctl apply -n demo
want 0 "may now run /bin/sh"
as root jailctl apply demo
want 0 "in force"
as "$user" jailctl run demo sh -c 'id; cat /proc/1/status || echo no /proc here; exit 7'
want 7 "no /proc here"

heading "A policy that is removed closes the jail at once"
as root rm "$policy"
want 0
as "$user" jailctl run demo id
want 125 "no jail of that name is open to you"
as root jailctl apply --all
want 0 "demo: withdrawn"

say
[ "$wrong" -eq 0 ] || die "FAILED: see the lines with WRONG above"
say "demo: all went as it should; $prefix is removed again"
