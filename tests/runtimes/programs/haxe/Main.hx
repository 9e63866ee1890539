class Main {
    static function main() {
        Sys.println(Total.upTo(100));
        Sys.println(Sys.stdin().readLine());
    }
}
