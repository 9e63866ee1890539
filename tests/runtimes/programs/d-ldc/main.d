import std.stdio;
import total;

void main() {
    writeln(upTo(100));
    write(readln());
}
