package jailtree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"jailctl/internal/contents"
	"jailctl/policy/source"
)

// user and group ask the name service, and note the files that it asks first; of what
// else it may ask no stamp can be taken.
func (p *planner) user(name string) (source.User, error) {
	p.Files.Lstat("/etc/passwd")
	return p.Names.User(name)
}

func (p *planner) group(name string) (gid uint32, known string, err error) {
	p.Files.Lstat("/etc/group")
	return p.Names.Group(name)
}

// accounts writes etc/passwd and etc/group of the jail: the users and groups that
// the contents file names, and no password, not even a hashed one.
func (p *planner) accounts() {
	if len(p.spec.Users)+len(p.spec.Groups) == 0 {
		return
	}
	users, groups := map[uint32]source.User{}, map[uint32]string{}
	askers := map[uint32]contents.At{}
	var at contents.At
	for _, n := range p.spec.Groups {
		at = n.At
		gid, name, err := p.group(n.Name)
		if err == nil && name == "" {
			err = errors.New("a number without a name")
		}
		if err != nil {
			p.problem(n.At, "create the group, or leave it out", "there is no group %q: %v", n.Name, err)
			continue
		}
		groups[gid] = name
	}
	for _, n := range p.spec.Users {
		at = n.At
		u, err := p.user(n.Name)
		if err == nil && u.Name == "" {
			err = errors.New("a number without a name")
		}
		if err != nil {
			p.problem(n.At, "create the account, or leave it out", "there is no user %q: %v", n.Name, err)
			continue
		}
		users[u.UID], askers[u.UID] = u, n.At
		if _, name, err := p.group(fmt.Sprint(u.GID)); err == nil && name != "" {
			groups[u.GID] = name
		}
	}
	var passwd, group strings.Builder
	for _, uid := range sorted(users) {
		u := users[uid]
		// ":" and newline would be fields and lines of the writer's choice.
		if strings.ContainsAny(u.Name+u.Home+u.Shell, ":\n") {
			p.problem(askers[uid], "mend the account", "the account %q has a colon or newline in its home or shell", u.Name)
			continue
		}
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:%s\n", u.Name, u.UID, u.GID, u.Home, u.Shell)
	}
	for _, gid := range sorted(groups) {
		fmt.Fprintf(&group, "%s:x:%d:\n", groups[gid], gid)
	}
	if len(users) > 0 {
		p.generated(at, "/etc/passwd", 0o644, []byte(passwd.String()))
	}
	p.generated(at, "/etc/group", 0o644, []byte(group.String()))
}

func sorted[V any](m map[uint32]V) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
