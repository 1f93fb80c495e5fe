package main

// failSyncs makes every sync of a peer fail; it must stop.
func (p *hunter) failSyncs(seed uint64) ([]string, error) { return nil, nil }
