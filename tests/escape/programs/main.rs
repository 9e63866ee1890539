// What Rust programs do: each part prints its name when it has worked.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{mpsc, Arc, Condvar, Mutex};
use std::{fs, panic, thread, time::Duration};

fn threads() {
    let (sender, receiver) = mpsc::channel();
    for _ in 0..8 {
        let sender = sender.clone();
        thread::spawn(move || sender.send(5).unwrap());
    }
    drop(sender);
    assert_eq!(receiver.iter().sum::<i32>(), 40);
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = Arc::clone(&pair);
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(10));
        *other.0.lock().unwrap() = true;
        other.1.notify_one();
    });
    let mut ready = pair.0.lock().unwrap();
    while !*ready {
        ready = pair.1.wait(ready).unwrap();
    }
}

fn processes() {
    assert_eq!(Command::new("sh").args(["-c", "exit 2"]).status().unwrap().code(), Some(2));
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"x");
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"x").unwrap());
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    server.join().unwrap();
    assert_eq!(text, "x");
}

fn files() {
    fs::create_dir_all("a/b").unwrap();
    fs::write("a/b/f", "2").unwrap();
    fs::rename("a", "c").unwrap();
    assert_eq!(fs::read_to_string("c/b/f").unwrap(), "2");
    fs::remove_dir_all("c").unwrap();
}

fn panics() {
    assert!(panic::catch_unwind(|| { let v: Vec<i32> = vec![]; v[0] }).is_err());
}

fn main() {
    threads(); println!("threads");
    processes(); println!("processes");
    sockets(); println!("sockets");
    files(); println!("files");
    panics(); println!("panics");
}
