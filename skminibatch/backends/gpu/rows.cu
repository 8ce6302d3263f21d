// The order of the rows and the random numbers of dropout, computed on the device: bit for bit what _permutation.py and
// layers/dropout.py say. Stands behind the structs of the parts, which define HD.

typedef unsigned long long Word;  // 64 bits, counting modulo 2^64
typedef long long Index;

/* `half` plus a hash of the other half, below w. Only products of 32 bits by 32 bits. */
HD Word turn(Word half, Word other, Word key, Word w) {
    Word h = Word(unsigned(other ^ key)) * 0x9E3779B1u;
    h = Word(unsigned(h ^ (h >> 32) ^ (key >> 32))) * 0x85EBCA77u;
    half += Word(unsigned(h ^ (h >> 32))) * unsigned(w) >> 32;
    return half < half - w ? half : half - w;  // the difference wraps around where half is below w already
}

/* One pass of the bijection of the numbers below w * w. */
HD Word scramble(Word x, Word w, const Index* keys) {
    Word left = x / w, right = x - left * w;
    left = turn(left, right, Word(keys[0]), w);
    right = turn(right, left, Word(keys[1]), w);
    left = turn(left, right, Word(keys[2]), w);
    right = turn(right, left, Word(keys[3]), w);
    left = turn(left, right, Word(keys[4]), w);
    right = turn(right, left, Word(keys[5]), w);
    return left * w + right;
}

/* An order of rows, from its arrays and from source.order_numbers of it. */
struct RowOrder {
    static constexpr int n_numbers = 14;
    const Index *stored, *subset, *keys;
    Index n_stored, n_subset, block, width, start, copies, n_blocks, gap, behind;

    HD RowOrder(const Index* stored, const Index* subset, const Index* numbers)
        : stored(stored), subset(subset), keys(numbers + 8), n_stored(numbers[0]), n_subset(numbers[1]) {
        const Index place_of_short = numbers[4];
        block = numbers[3], width = numbers[5], start = numbers[6], copies = numbers[7];
        const Index n_places = numbers[2] * copies;
        n_blocks = (n_places + block - 1) / block;
        gap = place_of_short < n_blocks ? n_blocks * block - n_places : 0;
        behind = (place_of_short + 1) * block - gap;  // the first position after the short block
    }

    HD Index row_at(Index position) const {
        if (n_stored) return stored[position];
        Index i = position + start, offset = 0;
        if (i >= behind) i += gap;
        if (block > 1) {
            const Index place = i / block;
            offset = i - place * block;
            i = place;
        }
        do i = Index(scramble(Word(i), Word(width), keys));
        while (i >= n_blocks);
        const Index place = i * block + offset, row = copies > 1 ? place / copies : place;
        return n_subset ? subset[row] : row;
    }
};

/* A bijection of 64 bits that looks random. */
HD Word mixed(Word x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* Where the random numbers of a layer start in a step: the same for all its units. */
HD Word draws(Word seed, Word step, Word number) {
    const Word golden = 0x9E3779B97F4A7C15u;
    return mixed(mixed(seed + golden) + step * golden + number);
}

/* The random number, of 24 bits, of the count-th unit after a start, from one on. */
HD unsigned drawn(Word start, Word count) { return unsigned(mixed(start + count * 0x9E3779B97F4A7C15u) >> 40); }

HD unsigned drawn(Word seed, Word step, Word number, Word count) { return drawn(draws(seed, step, number), count); }
