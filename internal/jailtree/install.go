package jailtree

import (
	"path"
	"slices"
)

// installers are in the order of the names in packaged.
var installers = []string{"apt-get install", "dnf install", "apk add"}

// packaged are the packages of what our presets cannot do without, and a host may lack.
var packaged = map[string][3]string{
	"ar":          {"binutils", "binutils", "binutils"},
	"as":          {"binutils", "binutils", "binutils"},
	"ca-*.crt":    {"ca-certificates", "ca-certificates", "ca-certificates"},
	"cc":          {"gcc", "gcc", "gcc"},
	"cpp":         {"cpp", "cpp", "gcc"},
	"gcc":         {"gcc", "gcc", "gcc"},
	"git":         {"git", "git", "git"},
	"ld":          {"binutils", "binutils", "binutils"},
	"nm":          {"binutils", "binutils", "binutils"},
	"node":        {"nodejs", "nodejs", "nodejs"},
	"objcopy":     {"binutils", "binutils", "binutils"},
	"objdump":     {"binutils", "binutils", "binutils"},
	"python3":     {"python3", "python3", "python3"},
	"ranlib":      {"binutils", "binutils", "binutils"},
	"rsync":       {"rsync", "rsync", "rsync"},
	"sftp-server": {"openssh-sftp-server", "openssh-server", "openssh-sftp-server"},
	"stdio.h":     {"libc6-dev", "glibc-devel", "musl-dev"},
	"strip":       {"binutils", "binutils", "binutils"},
}

// install says how to get a program, a path or what a pattern stands for.
func (p *planner) install(name string) string {
	packages, known := packaged[path.Base(name)]
	i := slices.Index(installers, p.Packages.Installer())
	if !known || i < 0 {
		return "install it"
	}
	return "install it with " + installers[i] + " " + packages[i]
}
