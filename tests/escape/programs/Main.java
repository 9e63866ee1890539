// What Java programs do: each part prints its name when it has worked.
import java.io.*;
import java.lang.management.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Main {
  static void check(boolean condition) {
    if (!condition) throw new AssertionError();
  }

  static void threads() throws Exception {
    var pool = Executors.newFixedThreadPool(4);
    check(pool.submit(() -> IntStream.range(0, 9).parallel().sum()).get() == 36);
    var timer = Executors.newScheduledThreadPool(1);
    check(timer.schedule(() -> 7, 5, TimeUnit.MILLISECONDS).get() == 7);
    check(CompletableFuture.supplyAsync(() -> 3).thenApply(n -> n + 1).get() == 4);
    pool.shutdown();
    timer.shutdown();
  }

  static void collection() throws Exception {
    for (int round = 0; round < 40; round++) {
      var garbage = new ArrayList<byte[]>();
      for (int i = 0; i < 100; i++) garbage.add(new byte[20_000]);
    }
    System.gc();
    long runs = 0;
    for (var bean : ManagementFactory.getGarbageCollectorMXBeans()) runs += bean.getCollectionCount();
    check(runs > 0);
  }

  static void compiler() {
    long sum = 0;
    for (int i = 0; i < 50_000_000; i++) sum += i ^ (sum >> 3);
    check(sum != 0);
  }

  static void processes() throws Exception {
    var child = new ProcessBuilder("sh", "-c", "cat; exit 2").start();
    child.getOutputStream().close();
    check(child.waitFor() == 2);
    check(ProcessHandle.current().pid() > 0);
  }

  static void files() throws Exception {
    Files.writeString(Path.of("f"), "6");
    try (var channel = FileChannel.open(Path.of("f"), StandardOpenOption.WRITE, StandardOpenOption.READ);
        var lock = channel.lock()) {
      channel.map(FileChannel.MapMode.READ_WRITE, 0, 1).put(0, (byte) '7');
    }
    check(Files.readString(Path.of("f")).equals("7"));
    try (var watcher = FileSystems.getDefault().newWatchService()) {
      Path.of(".").register(watcher, StandardWatchEventKinds.ENTRY_CREATE);
      Files.createFile(Path.of("g"));
      check(watcher.poll(10, TimeUnit.SECONDS) != null);
    }
  }

  static void sockets() throws Exception {
    try (var server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        var client = new Socket(server.getInetAddress(), server.getLocalPort());
        var accepted = server.accept()) {
      client.getOutputStream().write(7);
      check(accepted.getInputStream().read() == 7);
    }
    try (var selector = Selector.open(); var channel = DatagramChannel.open()) {
      channel.configureBlocking(false);
      channel.register(selector, SelectionKey.OP_WRITE);
      check(selector.select(5000) == 1);
    }
    InetAddress.getByName("localhost");
    NetworkInterface.getNetworkInterfaces();
  }

  static void faults() {
    Object nothing = System.getenv("NO_SUCH_VARIABLE");
    int caught = 0;
    for (int i = 0; i < 20_000; i++) {
      try {
        nothing.hashCode();
      } catch (NullPointerException expected) {
        caught++;
      }
    }
    check(caught == 20_000);
  }

  public static void main(String[] arguments) throws Exception {
    threads(); System.out.println("threads");
    collection(); System.out.println("collection");
    compiler(); System.out.println("compiler");
    processes(); System.out.println("processes");
    files(); System.out.println("files");
    sockets(); System.out.println("sockets");
    faults(); System.out.println("faults");
  }
}
