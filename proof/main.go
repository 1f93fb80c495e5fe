package main

import (
	_ "github.com/anishathalye/porcupine"
	_ "github.com/lookupd/lookupd/fsm"
	_ "github.com/lookupd/lookupd/supervisor"
)

func main() {}
