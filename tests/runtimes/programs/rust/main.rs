mod total;

fn main() {
    let mut line = String::new();
    println!("{}", total::total(100));
    std::io::stdin().read_line(&mut line).unwrap();
    print!("{}", line);
}
