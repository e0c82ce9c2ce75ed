# jailctl. `make help` lists the targets.
#
#   make install PREFIX=… SYSCONFDIR=… STATEDIR=… [LIBEXECDIR=… BINDIR=… SHAREDIR=… DESTDIR=… HELPER_GROUP=…]
#
# bakes the paths into the binaries; nothing can move them afterwards.
GO         ?= go
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR     ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec
SHAREDIR   ?= $(PREFIX)/share
MANDIR     ?= $(SHAREDIR)/man
ifneq ($(filter /usr /usr/local,$(PREFIX)),)
STATEDIR   ?= /var/lib
else
STATEDIR   ?= $(PREFIX)/var/lib
endif
VERSION    ?= 0.1.0
OUT        ?= bin
PROTO_OUT  ?= proto/jailpb
SOURCES     = $(filter-out %.pb.go,$(shell git ls-files '*.go'))
HELPER      = $(DESTDIR)$(LIBEXECDIR)/jailctl/jailhelper
# Group that may execute the helper; empty: everybody. An installed helper keeps its own.
HELPER_GROUP ?= $(shell stat -c '%a %G' $(HELPER) 2>/dev/null | sed -n 's/^4750 //p')

export CGO_ENABLED = 0
LDFLAGS = -X jailctl/internal/paths.Sysconf=$(SYSCONFDIR)/jailctl \
          -X jailctl/internal/paths.State=$(STATEDIR)/jailctl \
          -X jailctl/internal/paths.Libexec=$(LIBEXECDIR)/jailctl \
          -X jailctl/internal/paths.Share=$(SHAREDIR)/jailctl \
          -X jailctl/internal/paths.Bin=$(BINDIR) \
          -X jailctl/internal/paths.Version=$(VERSION)
BUILD   = $(GO) build -trimpath -buildvcs=false
TOOL    = $(GO) tool -modfile=tools/go.mod

# Where systemd and apt look.
UNITDIR    ?= $(PREFIX)/lib/systemd/system
APTCONFDIR ?= $(SYSCONFDIR)/apt/apt.conf.d
# What changes with the packages: of dpkg, apk or rpm, whichever is here.
PACKAGEDB  ?= $(firstword $(wildcard /var/lib/dpkg/status /lib/apk/db/installed /usr/lib/sysimage/rpm/rpmdb.sqlite /var/lib/rpm/rpmdb.sqlite))
UNITS       = jailctl-build.service jailctl-build.path jailctl-build.timer
FILL        = sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@PACKAGEDB@|$(PACKAGEDB)|g'

.PHONY: help build test lint proto demo install install-hooks uninstall bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# jailctl-admin after these: it knows the other two by their SHA-256, for jailctl doctor.
build: ## the programs, static, into bin/
	$(BUILD) -ldflags '-E main.entry $(LDFLAGS)' -o $(OUT)/jailctl ./cmd/jailctl
	$(BUILD) -ldflags '-E main.entry $(LDFLAGS)' -o $(OUT)/jailhelper ./cmd/jailhelper
	client=$$(sha256sum <$(OUT)/jailctl) && helper=$$(sha256sum <$(OUT)/jailhelper) && \
	  $(BUILD) -ldflags "$(LDFLAGS) -X jailctl/internal/paths.ClientHash=$${client%% *} \
	  -X jailctl/internal/paths.HelperHash=$${helper%% *}" -o $(OUT)/jailctl-admin ./cmd/jailctl-admin
	@# Go's threads signal each other, which few promises permit: not in the probe.
	$(BUILD) -ldflags '-X runtime.godebugDefault=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0' -o $(OUT)/jailctl-probe ./cmd/jailctl-probe

install: build ## into PREFIX, SYSCONFDIR and STATEDIR, the helper setuid root
	@umask 022; for d in $(BINDIR) $(LIBEXECDIR)/jailctl $(SYSCONFDIR)/jailctl $(STATEDIR)/jailctl \
	    $(SYSCONFDIR)/jailctl/contents $(SYSCONFDIR)/jailctl/presets $(SHAREDIR)/jailctl $(SHAREDIR)/jailctl/presets; do \
	  test -d $(DESTDIR)$$d || install -d -m 0755 $(DESTDIR)$$d; done
	@umask 077; for d in $(SYSCONFDIR)/jailctl/jails $(STATEDIR)/jailctl/policies $(STATEDIR)/jailctl/manifests; do \
	  test -d $(DESTDIR)$$d || install -d -m 0700 $(DESTDIR)$$d; done
	@# Who may write on the way to the helper could put a program in its place before it
	@# becomes setuid. A DESTDIR is a packager's, and the package manager's to check.
	@d=$(if $(DESTDIR),/,$(abspath $(LIBEXECDIR)/jailctl)); while :; do \
	  test -z "$$(find "$$d" -maxdepth 0 \( ! -uid 0 -o -perm /022 \) )" || \
	    { echo "install: $$d must be owned by root and writable by nobody else" >&2; exit 1; }; \
	  test "$$d" != / || break; d=$$(dirname "$$d"); done
	install -m 0755 $(OUT)/jailctl $(DESTDIR)$(BINDIR)/jailctl
	install -m 0755 $(OUT)/jailctl-admin $(DESTDIR)$(LIBEXECDIR)/jailctl/jailctl-admin
	install -m 0755 $(OUT)/jailctl-probe $(DESTDIR)$(LIBEXECDIR)/jailctl/jailctl-probe
	install -m 0700 $(OUT)/jailhelper $(HELPER).new
ifneq ($(HELPER_GROUP),)
	getent group $(HELPER_GROUP) >/dev/null || { rm -f $(HELPER).new; echo 'install: there is no group $(HELPER_GROUP)' >&2; exit 1; }
	chown root:$(HELPER_GROUP) $(HELPER).new
	chmod 4750 $(HELPER).new
else
	chown root:root $(HELPER).new
	chmod 4755 $(HELPER).new
endif
	test ! -e $(HELPER) || chmod u-s $(HELPER)
	mv -f $(HELPER).new $(HELPER)

	install -m 0644 presets/*.txtpb $(DESTDIR)$(SHAREDIR)/jailctl/presets/
	install -d -m 0755 $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	install -m 0644 docs/jailctl.1 $(DESTDIR)$(MANDIR)/man1/
	install -m 0644 docs/jailctl-policy.5 docs/jailctl-contents.5 $(DESTDIR)$(MANDIR)/man5/
	install -m 0644 docs/jailhelper.8 $(DESTDIR)$(MANDIR)/man8/

install-hooks: ## jails are built again by themselves after changes of packages: for apt, and units for systemd
	@test -n "$(PACKAGEDB)" || { echo 'install-hooks: there is no package database; name it by PACKAGEDB=FILE' >&2; exit 1; }
	install -d -m 0755 $(DESTDIR)$(APTCONFDIR) $(DESTDIR)$(UNITDIR)
	@umask 022; set -e; $(FILL) packaging/apt.conf.in >$(DESTDIR)$(APTCONFDIR)/90jailctl; \
	  for u in $(UNITS); do $(FILL) packaging/$$u.in >$(DESTDIR)$(UNITDIR)/$$u; done
	@case "$(APTCONFDIR)" in /etc/apt/*) ;; *) echo 'install-hooks: apt does not look in $(APTCONFDIR); give APTCONFDIR=/etc/apt/apt.conf.d' >&2 ;; esac
	@case "$(UNITDIR)" in /etc/systemd/*|/usr/lib/*|/usr/local/lib/*|/lib/*) \
	  echo 'to have systemd do it too: systemctl daemon-reload && systemctl enable --now jailctl-build.path jailctl-build.timer' ;; \
	  *) echo 'install-hooks: systemd does not look in $(UNITDIR); give UNITDIR=/etc/systemd/system' >&2 ;; esac

uninstall: ## what install made; policies, contents files, own presets and manifests stay
	test ! -e $(HELPER) || chmod u-s $(HELPER)
	rm -f $(DESTDIR)$(BINDIR)/jailctl
	rm -rf $(DESTDIR)$(LIBEXECDIR)/jailctl $(DESTDIR)$(SHAREDIR)/jailctl
	rm -f $(DESTDIR)$(MANDIR)/man1/jailctl.1 $(DESTDIR)$(MANDIR)/man8/jailhelper.8
	rm -f $(DESTDIR)$(MANDIR)/man5/jailctl-policy.5 $(DESTDIR)$(MANDIR)/man5/jailctl-contents.5
	rm -f $(DESTDIR)$(APTCONFDIR)/90jailctl $(UNITS:%=$(DESTDIR)$(UNITDIR)/%)

test: ## everything; the parts that need real users and setuid only as root
	$(GO) test $(GOTESTFLAGS) -count=1 -p 1 ./...
ifneq ($(shell id -u),0)
	@echo 'left out, for want of root: client, cmd/jailctl, cmd/jailhelper, internal/attack, internal/presets, internal/programs, internal/trace (a real installation), internal/confine (a real jail) and parts of internal/elfdeps (chroot) and internal/learn'
endif

lint: ## format, vet, staticcheck, shellcheck, and generated code up to date
	@test -z "$$($(TOOL) gofumpt -l $(SOURCES))" || { $(TOOL) gofumpt -d $(SOURCES); exit 1; }
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./cmd/... ./internal/... ./client ./ipc
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	shellcheck .ci/run $(wildcard demo/*.sh cmd/*/*.bash)
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	  $(MAKE) -s proto PROTO_OUT="$$tmp" && diff -r "$$tmp" proto/jailpb

bench: ## launch cost beside a C pair, sudo, doas and bwrap (root); BENCHFLAGS=-cpu and more
	$(GO) build -o $(OUT)/bench ./bench
	$(OUT)/bench $(BENCHFLAGS)

demo: ## a permitted run, a refusal and an explanation, in a private prefix (root or sudo)
	./demo/run.sh

proto: ## regenerate proto/jailpb (protoc from Debian's protobuf-compiler, plugin pinned in go.mod)
	protoc -I proto --plugin=protoc-gen-go="$$($(GO) tool -n protoc-gen-go)" \
	  --go_out=$(PROTO_OUT) --go_opt=module=jailctl/proto/jailpb proto/*.proto

clean: ## what build made
	rm -rf $(OUT)
