//go:build !amd64

package attack

// callsElsewhere are calls that only amd64 has.
var callsElsewhere []Attack

// setIDElsewhere are the calls that newer architectures are without.
var setIDElsewhere []Attack
