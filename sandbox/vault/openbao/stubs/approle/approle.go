// Package approle stands in for a module that only OpenBao's own tests use.
package approle
