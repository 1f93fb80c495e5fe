package registry

import "strings"

// MaxNameLength is the longest topic or channel name in bytes, a suffix
// "#ephemeral" included (nsqlookupd 1.3.0, internal/protocol/names.go).
const MaxNameLength = 64

const ephemeralSuffix = "#ephemeral"

// ValidName reports whether name may be a topic or a channel: 1 to 64 bytes of
// letters, digits, '.', '_' and '-', then optionally "#ephemeral".
func ValidName(name string) bool {
	if len(name) > MaxNameLength {
		return false
	}
	base := strings.TrimSuffix(name, ephemeralSuffix)
	if base == "" {
		return false
	}
	for i := range len(base) {
		switch c := base[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// IsEphemeral reports whether the topic or channel goes with its last producer.
func IsEphemeral(name string) bool { return strings.HasSuffix(name, ephemeralSuffix) }

// Name is a topic, or a channel of it.
type Name struct{ Topic, Channel string }
