import java.util.Scanner;

class Main {
    public static void main(String[] words) {
        System.out.println(Total.of(100));
        System.out.println(new Scanner(System.in).nextLine());
    }
}
