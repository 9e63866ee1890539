#include <iostream>
#include <string>
#include "sum.hpp"

int main() {
    std::string word;
    std::cout << sum(100) << std::endl;
    std::cin >> word;
    std::cout << word << std::endl;
}
