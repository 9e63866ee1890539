import java.util.stream.IntStream;

class Total {
    static int of(int last) {
        return IntStream.rangeClosed(1, last).sum();
    }
}
