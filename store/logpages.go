package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// The parts of a bbolt file, version 2, in the byte order of the machine:
//
//	page      id 8 | flags 2 | count 2 | overflow 4 | content
//	          and overflow more pages that hold content only
//	meta      magic 4 | version 4 | page size 4 | flags 4 | root 8 | sequence 8 |
//	          freelist 8 | high water mark 8 | transaction 8 | FNV-1a of these 8
//	branch    count times: pos 4 | key size 4 | child 8, then the keys
//	leaf      count times: flags 4 | pos 4 | key size 4 | value size 4, then
//	          the keys and values; pos counts from the element's first byte
//	bucket    the value of a leaf element with flag 1: root 8 | sequence 8, and
//	          a leaf page of its own if root is 0
//	freelist  count page ids of 8 bytes; if count is 65535 the first one counts
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltNoFreelist = ^uint64(0)

	boltPageHeader  = 16
	boltElement     = 16
	boltMetaLength  = 64 // with the checksum
	boltBucketValue = 16

	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltFreelist = 0x10

	boltFirst   = 1 // the transaction of a file without buckets
	boltMinPage = 1 << 10
	boltMaxPage = 16 << 20
)

// Names of raft-boltdb's buckets.
const (
	bucketLogs = "logs"
	bucketConf = "conf"
)

var native = binary.NativeEndian

// boltMeta is the part of a meta page that counts.
type boltMeta struct {
	pageSize                uint64
	root, freelist, highest uint64 // highest is the first page number not in use
	transaction             uint64
}

// pageCheck walks all pages that a bbolt file uses, reading the file and not
// mapping it, and fails on whatever would make bbolt panic, in a
// goroutine of its own too, or the process fault: bbolt scans these pages on
// Open and believes them.
//
// Pages have no checksum and no transaction number. So an earlier version of a
// page in its place, after a write that the disk reported and lost, goes
// unseen, as long as it fits; the entries' own checksums do not tell either. The
// journal in front has two such places, see decodeRecords.
type pageCheck struct {
	file io.ReaderAt
	boltMeta
	buckets []string   // that the file must have, sorted, unless it has none
	reached []bool     // by page number
	indexes []indexRun // of bucketLogs
}

// checkPages checks the file, which must have the buckets, given sorted, and no
// others. It returns which indexes its log holds, if it has one. inited is false
// if bbolt alone has written to the file.
func checkPages(path string, buckets ...string) (indexes []indexRun, inited bool, err error) {
	file, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("%w: not a regular file", ErrRefused)
	}
	meta, err := readBoltMeta(file)
	if err != nil {
		return nil, false, err
	}
	if need := meta.highest * meta.pageSize; meta.highest > uint64(info.Size()) || need > uint64(info.Size()) {
		return nil, false, fmt.Errorf("%w: the file has %d bytes and should have %d pages of %d", ErrDamaged, info.Size(), meta.highest, meta.pageSize)
	}
	c := &pageCheck{file: file, boltMeta: meta, buckets: buckets, reached: make([]bool, meta.highest)}
	found, err := c.check()
	return c.indexes, found > 0, err
}

// readBoltMeta returns the newer of the two meta pages, which bbolt writes in
// turn, so that their transactions are one apart. Both must be whole: bbolt would
// open a file from one of them, and forget the latest transaction if that was
// the other, with an entry perhaps that only this peer and another, now away,
// have acknowledged. A crash leaves no torn one: what counts of it is in one
// sector.
func readBoltMeta(file io.ReaderAt) (boltMeta, error) {
	first, ok := readMetaAt(file, 0)
	if !ok {
		return boltMeta{}, fmt.Errorf("%w: meta page 0 cannot be read", ErrDamaged)
	}
	second, ok := readMetaAt(file, int64(first.pageSize))
	if !ok || second.pageSize != first.pageSize {
		return boltMeta{}, fmt.Errorf("%w: meta page 1 cannot be read", ErrDamaged)
	}
	older, newer := first, second
	if older.transaction > newer.transaction {
		older, newer = newer, older
	}
	if newer.transaction-older.transaction != 1 {
		return boltMeta{}, fmt.Errorf("%w: meta pages of transactions %d and %d", ErrDamaged, first.transaction, second.transaction)
	}
	return newer, nil
}

func readMetaAt(file io.ReaderAt, offset int64) (boltMeta, bool) {
	var b [boltMetaLength]byte
	if _, err := file.ReadAt(b[:], offset+boltPageHeader); err != nil {
		return boltMeta{}, false
	}
	sum := fnv.New64a()
	sum.Write(b[:boltMetaLength-8])
	meta := boltMeta{
		pageSize:    uint64(native.Uint32(b[8:])),
		root:        native.Uint64(b[16:]),
		freelist:    native.Uint64(b[32:]),
		highest:     native.Uint64(b[40:]),
		transaction: native.Uint64(b[48:]),
	}
	ok := native.Uint32(b[0:]) == boltMagic && native.Uint32(b[4:]) == boltVersion &&
		native.Uint64(b[56:]) == sum.Sum64() &&
		meta.pageSize >= boltMinPage && meta.pageSize <= boltMaxPage && meta.pageSize&(meta.pageSize-1) == 0
	return meta, ok
}

// check returns how many buckets the file has.
func (c *pageCheck) check() (buckets int, err error) {
	var names []string
	err = c.tree(c.root, keyRange{}, func(e leafElement) error {
		names = append(names, string(e.key))
		if !e.bucket {
			return c.damage("a value outside of the buckets")
		}
		return c.bucket(e)
	})
	if err != nil {
		return 0, err
	}
	// None is there between bbolt's first write and the next. One of raft-boltdb's
	// two alone would make it create the other, empty.
	if (len(names) > 0 || c.transaction > boltFirst) && !slices.Equal(names, c.buckets) {
		return 0, c.damage("buckets %q", names)
	}
	return len(names), c.freePages()
}

func (c *pageCheck) bucket(e leafElement) error {
	visit := func(leafElement) error { return nil }
	switch string(e.key) {
	case bucketLogs:
		visit = c.addIndex
	case bucketConf:
		visit = checkValue
	}
	plain := func(e leafElement) error {
		if e.bucket {
			return c.damage("a bucket in a bucket")
		}
		return visit(e)
	}
	if len(e.value) < boltBucketValue {
		return c.damage("bucket %q is cut", e.key)
	}
	if root := native.Uint64(e.value); root != 0 {
		return c.tree(root, keyRange{}, plain)
	}
	inline := e.value[boltBucketValue:]
	if len(inline) < boltPageHeader || native.Uint16(inline[8:]) != boltLeaf {
		return c.damage("bucket %q is cut", e.key)
	}
	if end, err := c.leaf(inline, keyRange{}, plain); err != nil || end == len(inline) {
		return err
	}
	return c.damage("bucket %q has %d bytes", e.key, len(inline))
}

// checkValue finds a changed key too: the value would be taken for missing.
func checkValue(e leafElement) error {
	_, err := openValue(e.key, e.value)
	return err
}

func (c *pageCheck) addIndex(e leafElement) error {
	if len(e.key) != 8 {
		return c.damage("an entry's key has %d bytes", len(e.key))
	}
	index := binary.BigEndian.Uint64(e.key)
	if n := len(c.indexes); n > 0 && c.indexes[n-1].last+1 == index {
		c.indexes[n-1].last = index
	} else {
		c.indexes = append(c.indexes, indexRun{index, index})
	}
	return nil
}

// keyRange is the part of the keys that a page may hold: from min, to before
// max unless that is nil.
type keyRange struct{ min, max []byte }

type leafElement struct {
	key, value []byte
	bucket     bool
}

// tree visits the elements of the leaves below page id in order.
func (c *pageCheck) tree(id uint64, keys keyRange, visit func(leafElement) error) error {
	page, err := c.page(id)
	if err != nil {
		return err
	}
	flags, count := native.Uint16(page[8:]), native.Uint16(page[10:])
	switch {
	case flags != boltLeaf && flags != boltBranch:
		return c.damage("page %d has flags %#x", id, flags)
	case count == 0 && id != c.root: // bbolt keeps an empty bucket inline
		return c.damage("page %d is empty", id)
	case flags == boltBranch:
		return c.branch(page, keys, visit)
	}
	_, err = c.leaf(page, keys, visit)
	return err
}

func (c *pageCheck) branch(page []byte, keys keyRange, visit func(leafElement) error) error {
	elements, _, err := c.elements(page, branchLayout, keys)
	if err != nil {
		return err
	}
	for i, e := range elements {
		below := keyRange{e.key, keys.max}
		if i+1 < len(elements) {
			below.max = elements[i+1].key
		}
		if err := c.tree(native.Uint64(e.head[8:]), below, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf returns where the page's content ends.
func (c *pageCheck) leaf(page []byte, keys keyRange, visit func(leafElement) error) (end int, err error) {
	elements, end, err := c.elements(page, leafLayout, keys)
	if err != nil {
		return 0, err
	}
	for _, e := range elements {
		flags := native.Uint32(e.head)
		if flags > 1 {
			return 0, c.damage("a leaf element has flags %#x", flags)
		}
		if err := visit(leafElement{key: e.key, value: e.value, bucket: flags == 1}); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// elementLayout is where in an element its lengths are; valueSize is 0 if there
// is no value.
type elementLayout struct{ pos, keySize, valueSize int }

var (
	branchLayout = elementLayout{pos: 0, keySize: 4}
	leafLayout   = elementLayout{pos: 4, keySize: 8, valueSize: 12}
)

type pageElement struct{ head, key, value []byte }

// elements returns the elements of a page, and where their keys and values end.
// bbolt writes these without a gap, so that a changed count or length shows.
func (c *pageCheck) elements(page []byte, layout elementLayout, keys keyRange) (elements []pageElement, end int, err error) {
	count := int(native.Uint16(page[10:]))
	end = boltPageHeader + count*boltElement
	if end > len(page) {
		return nil, 0, c.damage("more elements than a page holds")
	}
	elements = make([]pageElement, count)
	for i := range elements {
		at := boltPageHeader + i*boltElement
		head := page[at : at+boltElement]
		length := func(field int) uint64 { return uint64(native.Uint32(head[field:])) }
		start, middle := uint64(end), uint64(end)+length(layout.keySize)
		stop := middle
		if layout.valueSize > 0 {
			stop += length(layout.valueSize)
		}
		if start == middle || stop > uint64(len(page)) || uint64(at)+length(layout.pos) != start {
			return nil, 0, c.damage("an element is not where it should be")
		}
		key := page[start:middle]
		if i == 0 && bytes.Compare(key, keys.min) < 0 || i > 0 && bytes.Compare(key, elements[i-1].key) <= 0 ||
			keys.max != nil && bytes.Compare(key, keys.max) >= 0 {
			return nil, 0, c.damage("keys out of order")
		}
		elements[i], end = pageElement{head, key, page[middle:stop]}, int(stop)
	}
	return elements, end, nil
}

// page reads page id with what overflows it. Each may be reached once.
func (c *pageCheck) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.highest {
		return nil, c.damage("page %d of %d", id, c.highest)
	}
	var header [boltPageHeader]byte
	if _, err := c.file.ReadAt(header[:], int64(id*c.pageSize)); err != nil {
		return nil, err
	}
	pages := uint64(native.Uint32(header[12:])) + 1
	if native.Uint64(header[:]) != id || pages > c.highest-id {
		return nil, c.damage("page %d says that it is %d, of %d pages", id, native.Uint64(header[:]), pages)
	}
	for i := id; i < id+pages; i++ {
		if c.reached[i] {
			return nil, c.damage("page %d is used twice", i)
		}
		c.reached[i] = true
	}
	page := make([]byte, pages*c.pageSize) // within the file's size
	if _, err := c.file.ReadAt(page, int64(id*c.pageSize)); err != nil {
		return nil, err
	}
	return page, nil
}

// freePages checks the list of free pages, if the file has one: it is there
// until raft-boltdb's first write. A page that is free and in use would be
// written over.
func (c *pageCheck) freePages() error {
	if c.freelist == boltNoFreelist {
		return nil
	}
	page, err := c.page(c.freelist)
	if err != nil {
		return err
	}
	if flags := native.Uint16(page[8:]); flags != boltFreelist {
		return c.damage("the list of free pages has flags %#x", flags)
	}
	count, ids := uint64(native.Uint16(page[10:])), page[boltPageHeader:]
	if count == 0xFFFF {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return c.damage("%d free pages in a list of %d bytes", count, len(ids))
	}
	for i := range count {
		id := native.Uint64(ids[i*8:])
		if id < 2 || id >= c.highest || c.reached[id] {
			return c.damage("page %d is in use and free", id)
		}
		c.reached[id] = true
	}
	return nil
}

func (c *pageCheck) damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
