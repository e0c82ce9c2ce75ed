package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// User is an account as the name service knows it.
type User struct {
	// Written is the name or number that the policy gives.
	Written string
	UID     uint32
	// GID is the primary group; without meaning where Name is empty.
	GID uint32
	// Name is empty for a number that no account has.
	Name  string
	Home  string
	Shell string
}

// Names turns the names in a policy into numbers.
type Names interface {
	// User finds an account by name or decimal number. A number without an
	// account is no error: it gives a User that has only a UID.
	User(nameOrNumber string) (User, error)
	// Group finds a group likewise; name is empty for a number without one.
	Group(nameOrNumber string) (gid uint32, name string, err error)
}

// ErrUnknown says that the name service works and does not know the name.
var ErrUnknown = errors.New("unknown name")

// errName says that no account can have the name.
var errName = errors.New("not a name")

// validName refuses what would be an option, a number that the kernel has not,
// or more than a field of passwd(5).
func validName(name string) error {
	switch {
	case name == "", len(name) > 256, name[0] == '-', !utf8.ValidString(name):
		return errName
	case strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r == ',' || unicode.IsControl(r) }):
		return errName
	case strings.Trim(name, "0123456789") == "":
		if n, err := strconv.ParseUint(name, 10, 32); err != nil || strconv.FormatUint(n, 10) != name {
			return errName
		}
	}
	return nil
}

// ValidAccount tells whether an account can have the name or decimal number.
func ValidAccount(nameOrNumber string) bool { return validName(nameOrNumber) == nil }

// number is the value of a name that is one; such a name never means an account
// that happens to be called so.
func number(name string) (uint32, bool) {
	n, err := strconv.ParseUint(name, 10, 32)
	return uint32(n), err == nil
}

// getent is where the C library's name service answers questions, LDAP included.
// Where it is missing, as with other C libraries, the files in /etc are all.
const getent = "/usr/bin/getent"

// lookupTime bounds one question to a name service that may hang.
const lookupTime = 20 * time.Second

type system struct {
	mu   sync.Mutex
	seen map[string]answer
}

type answer struct {
	fields []string
	err    error
}

// System is the name service of this host. It remembers every answer that it got.
func System() Names { return &system{seen: map[string]answer{}} }

func (s *system) User(nameOrNumber string) (User, error) {
	f, err := s.lookup("passwd", nameOrNumber, 7)
	n, isNumber := number(nameOrNumber)
	if isNumber && errors.Is(err, ErrUnknown) {
		return User{UID: n}, nil
	}
	if err != nil {
		return User{}, err
	}
	uid, uidOK := number(f[2])
	gid, gidOK := number(f[3])
	if !uidOK || !gidOK || isNumber && uid != n {
		return User{}, fmt.Errorf("the name service's entry cannot be used: %q", strings.Join(f, ":"))
	}
	return User{UID: uid, GID: gid, Name: f[0], Home: f[5], Shell: f[6]}, nil
}

func (s *system) Group(nameOrNumber string) (uint32, string, error) {
	f, err := s.lookup("group", nameOrNumber, 4)
	n, isNumber := number(nameOrNumber)
	if isNumber && errors.Is(err, ErrUnknown) {
		return n, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	gid, ok := number(f[2])
	if !ok || isNumber && gid != n {
		return 0, "", fmt.Errorf("the name service's entry cannot be used: %q", strings.Join(f, ":"))
	}
	return gid, f[0], nil
}

// lookup finds the entry of a database, with so many fields, for a name or number.
func (s *system) lookup(database, name string, fields int) ([]string, error) {
	if err := validName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := database + ":" + name
	a, ok := s.seen[key]
	if !ok {
		var line string
		line, a.err = ask(database, name)
		a.fields = strings.Split(line, ":")
		if a.err == nil && (len(a.fields) != fields || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl)) {
			a.err = fmt.Errorf("the name service's entry cannot be used: %q", line)
		}
		s.seen[key] = a
	}
	return a.fields, a.err
}

// ask finds the line of an entry.
func ask(database, name string) (string, error) {
	out, err := runGetent(database, name)
	if errors.Is(err, os.ErrNotExist) {
		return inFile("/etc/"+database, name)
	}
	line, _, _ := strings.Cut(out, "\n")
	return line, err
}

func runGetent(database, name string) (string, error) {
	return getentFor(lookupTime, database, "--", name)
}

func getentFor(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, getent, args...)
	cmd.Env = []string{}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("no answer within %v", limit)
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		return "", ErrUnknown
	case err != nil:
		return "", err
	}
	return string(out), nil
}

// inFile finds an entry in a file of the form of /etc/passwd.
func inFile(file, name string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	column := 0
	if _, ok := number(name); ok {
		column = 2
	}
	for line := range bytes.Lines(b) {
		entry := strings.TrimSuffix(string(line), "\n")
		if f := strings.Split(entry, ":"); len(f) > 2 && f[column] == name {
			return entry, nil
		}
	}
	return "", ErrUnknown
}

// Listed are names that a database, passwd or group, has: at most 1000, what came
// within two seconds, and none that a name service does not list.
func Listed(database string) []string {
	out, err := getentFor(2*time.Second, database)
	if errors.Is(err, os.ErrNotExist) {
		b, _ := os.ReadFile("/etc/" + database)
		out = string(b)
	}
	var names []string
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(line, ":"); ok && validName(name) == nil && len(names) < 1000 {
			names = append(names, name)
		}
	}
	return names
}

// Memberships are the groups of an account as a login would set them, without
// the primary one unless it is among them.
func Memberships(user User) ([]uint32, error) {
	if user.Name == "" {
		return nil, nil
	}
	if err := validName(user.Name); err != nil {
		return nil, err
	}
	out, err := runGetent("initgroups", user.Name)
	if errors.Is(err, os.ErrNotExist) {
		return memberships("/etc/group", user.Name)
	}
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for i, word := range strings.Fields(out) {
		if gid, ok := number(word); ok && i > 0 && !slices.Contains(gids, gid) {
			gids = append(gids, gid)
		}
	}
	return gids, nil
}

// memberships are the groups that a file of the form of /etc/group puts name in.
func memberships(file, name string) ([]uint32, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for line := range bytes.Lines(b) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			continue
		}
		if gid, ok := number(f[2]); ok && !slices.Contains(gids, gid) {
			gids = append(gids, gid)
		}
	}
	return gids, nil
}
