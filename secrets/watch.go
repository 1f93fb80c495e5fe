package secrets

// Watch notices that files have changed. One goroutine uses it.
type Watch[T interface{ Same(T) bool }] struct {
	load func() (T, error)
	last T
	// failure is what the last look failed with, "" for nothing.
	failure string
	told    string // the failure that Look has returned
}

// NewWatch returns a Watch that has seen last, and looks with load.
func NewWatch[T interface{ Same(T) bool }](last T, load func() (T, error)) *Watch[T] {
	return &Watch[T]{load: load, last: last}
}

// Look loads again. What loads and is not the same as before is changed. An
// error is returned once, and only if it was there at the look before: files
// are replaced one after the other. What was loaded last stays valid then.
func (w *Watch[T]) Look() (value T, changed bool, err error) {
	value, err = w.load()
	if err != nil {
		lasts := w.failure == err.Error()
		w.failure = err.Error()
		if !lasts || w.told == w.failure {
			return w.last, false, nil
		}
		w.told = w.failure
		return w.last, false, err
	}
	w.failure, w.told = "", ""
	if value.Same(w.last) {
		return w.last, false, nil
	}
	w.last = value
	return value, true, nil
}
