using System;
using System.Linq;

class Program {
    static void Main() {
        Console.WriteLine(Total.Numbers(100).Sum());
        Console.WriteLine(Console.ReadLine());
    }
}
