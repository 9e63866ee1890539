// What C++ programs do: each part prints its name when it has worked.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <mutex>
#include <numeric>
#include <random>
#include <regex>
#include <stdexcept>
#include <thread>
#include <vector>

int main() {
  std::atomic<int> n{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 8; i++) all.emplace_back([&] { n += 5; });
  for (auto &thread : all) thread.join();
  if (n == 40) std::cout << "threads\n";

  auto later = std::async(std::launch::async, [] { return 42; });
  std::mutex mutex;
  std::condition_variable condition;
  bool ready = false;
  std::thread teller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::lock_guard guard(mutex);
    ready = true;
    condition.notify_one();
  });
  std::unique_lock lock(mutex);
  if (condition.wait_for(lock, std::chrono::seconds(5), [&] { return ready; }) && later.get() == 42)
    std::cout << "waiting\n";
  lock.unlock();
  teller.join();

  try {
    throw std::runtime_error("x");
  } catch (const std::exception &) {
    std::cout << "exceptions\n";
  }

  namespace fs = std::filesystem;
  fs::create_directories("a/b");
  std::ofstream("a/b/f") << 7;
  int read = 0;
  std::ifstream("a/b/f") >> read;
  fs::rename("a", "c");
  if (read == 7 && fs::remove_all("c") == 3) std::cout << "files\n";

  std::vector<int> numbers(100000);
  std::random_device seed;
  std::mt19937 random(seed());
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), random);
  std::sort(numbers.begin(), numbers.end());
  if (numbers[99999] == 99999 && std::regex_match("abc", std::regex("[a-c]+")))
    std::cout << "library\n";
}
