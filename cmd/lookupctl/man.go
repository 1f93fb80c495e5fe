package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/lookupd/lookupd/cmd/internal/build"
)

func newMan(o *options) *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use: "man DIR", Short: "Writes a man page for each command into a directory", Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0], markdown) },
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "Markdown instead")
	return cmd
}

// writeManual leaves out dates: the same commands give the same pages.
func writeManual(root *cobra.Command, dir string, markdown bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	if markdown {
		return doc.GenMarkdownTree(root, dir)
	}
	return doc.GenManTree(root, &doc.GenManHeader{Title: "LOOKUPCTL", Section: "1", Source: "lookupd " + build.Version, Manual: "lookupd"}, dir)
}
