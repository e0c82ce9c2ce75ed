module jailctl

go 1.26.0

godebug (
	// The runtime would otherwise read and keep cgroup files open as
	// descriptors 3 and 4, which are the helper's socket and signal pipe.
	containermaxprocs=0
	updatemaxprocs=0
)

require (
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

tool google.golang.org/protobuf/cmd/protoc-gen-go
