#include <numeric>
#include <vector>
#include "sum.hpp"

int sum(int last) {
    std::vector<int> numbers(last);
    std::iota(numbers.begin(), numbers.end(), 1);
    return std::accumulate(numbers.begin(), numbers.end(), 0);
}
