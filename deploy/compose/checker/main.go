// Checks the compose file with the library by which Docker Compose reads it, and the Dockerfiles that
// it builds with the parser and linter of BuildKit.
//
//	checker COMPOSE_FILE PROFILE...
package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: checker COMPOSE_FILE PROFILE...")
	}
	file := os.Args[1]
	dockerfiles := map[string]bool{}
	for _, profile := range append([]string{""}, os.Args[2:]...) {
		built, services := load(file, profile)
		maps.Copy(dockerfiles, built)
		fmt.Printf("%s, profile %q: %d services\n", file, profile, services)
	}
	for _, name := range slices.Sorted(maps.Keys(dockerfiles)) {
		stages := check(name)
		fmt.Printf("%s: %d stages\n", name, stages)
	}
}

// load gives the Dockerfiles that are built in a profile, and how many services there are.
func load(file, profile string) (map[string]bool, int) {
	profiles := []string{}
	if profile != "" {
		profiles = append(profiles, profile)
	}
	// As `docker compose` does: `.env` beside the file names the profile that is meant without one.
	options := []cli.ProjectOptionsFn{
		cli.WithWorkingDirectory(filepath.Dir(file)),
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultProfiles(profiles...),
		cli.WithConsistency(true),
	}
	project, err := cli.NewProjectOptions([]string{file}, options...)
	if err != nil {
		fail("%s: %v", file, err)
	}
	loaded, err := project.LoadProject(context.Background())
	if err != nil {
		fail("%s, profile %q: %v", file, profile, err)
	}
	dockerfiles := map[string]bool{}
	for _, service := range loaded.Services {
		if build := service.Build; build != nil && build.DockerfileInline == "" {
			name := build.Dockerfile
			if name == "" {
				name = "Dockerfile"
			}
			if !filepath.IsAbs(name) {
				name = filepath.Join(build.Context, name)
			}
			dockerfiles[name] = true
		}
	}
	return dockerfiles, len(loaded.Services)
}

// check gives the number of stages of a Dockerfile.
func check(name string) int {
	content, err := os.ReadFile(name)
	if err != nil {
		fail("%v", err)
	}
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		fail("%s: %v", name, err)
	}
	problems := 0
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		problems++
		fmt.Fprintf(os.Stderr, "%s: %v: %s: %s\n", name, at, rule, message)
	}})
	for _, warning := range parsed.Warnings {
		problems++
		fmt.Fprintf(os.Stderr, "%s: %v: %s\n", name, warning.Location, warning.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		fail("%s: %v", name, err)
	}
	if problems > 0 {
		fail("%s: %d problems", name, problems)
	}
	return len(stages)
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
