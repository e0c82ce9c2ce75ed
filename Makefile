# jailctl. `make help` lists the targets.
PREFIX     ?= /usr/local
GO         ?= go

proto: ## regenerate proto/jailpb (protoc from Debian's protobuf-compiler, plugin pinned in go.mod)
	protoc -I proto --plugin=protoc-gen-go="$$($(GO) tool -n protoc-gen-go)" \
	  --go_out=proto/jailpb --go_opt=module=jailctl/proto/jailpb proto/*.proto
.PHONY: proto
