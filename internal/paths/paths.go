// Package paths holds the places that `make install` bakes into the binaries
// with the linker's -X. Nothing at run time can move them: no flag, variable or
// message.
package paths

// The defaults are those of `make install` without arguments.
var (
	// Sysconf is SYSCONFDIR/jailctl; jails/NAME.txtpb in it is a policy file,
	// contents/NAME.txtpb a contents file, presets/NAME.txtpb a preset.
	Sysconf = "/etc/jailctl"
	// State is STATEDIR/jailctl; policies/NAME.pb in it is a compiled policy,
	// manifests/NAME a directory of manifests, fresh/NAME how a build left everything.
	State = "/var/lib/jailctl"
	// Libexec is LIBEXECDIR/jailctl, which holds jailhelper and jailctl-admin.
	Libexec = "/usr/local/libexec/jailctl"
	// Share is SHAREDIR/jailctl; presets/NAME.txtpb in it is a preset of ours.
	Share = "/usr/local/share/jailctl"
	// Bin is BINDIR, which holds jailctl.
	Bin = "/usr/local/bin"
	// HelperHash and ClientHash are the SHA-256 of the jailhelper and the jailctl
	// of the same build, in hexadecimal; only jailctl-admin has them.
	HelperHash, ClientHash string
	// Version is what `jailctl version` prints.
	Version = "0.1.0-dev"
)

// Policy is the policy file of the jail called name.
func Policy(name string) string { return Sysconf + "/jails/" + name + ".txtpb" }

// Compiled is the compiled form of the policy of the jail called name.
func Compiled(name string) string { return State + "/policies/" + name + ".pb" }

// Contents is the contents file of the jail called name.
func Contents(name string) string { return Sysconf + "/contents/" + name + ".txtpb" }

// Presets are the directories that hold presets, NAME.txtpb, the administrator's
// own before ours: the first file of a name counts.
func Presets() []string { return []string{Sysconf + "/presets", Share + "/presets"} }

// Manifests is the directory that holds the manifests of the jail called name.
func Manifests(name string) string { return State + "/manifests/" + name }

// Fresh is the file that says how the last build of the jail called name left everything.
func Fresh(name string) string { return State + "/fresh/" + name }
