package testkit

import "os"

// cleanEnv is the environment of every program that tests start: nothing of the developer's own
// settings (PGHOST, WALDEN_REPO, AWS_PROFILE, a locale) may decide whether a test passes.
func cleanEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"LC_ALL=C",
		"TZ=UTC",
	}
}
