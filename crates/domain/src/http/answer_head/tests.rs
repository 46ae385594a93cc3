use super::*;

fn read(head: &str) -> Result<AnswerHead, HeadProblem> {
    AnswerHead::read(&Bytes::copy_from_slice(head.as_bytes()), false)
}

/// The head `HTTP/1.1 200 OK` with these lines.
fn with(lines: &str) -> Result<AnswerHead, HeadProblem> {
    read(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))
}

fn shown(head: &AnswerHead) -> Vec<String> {
    let lines = head.fields.iter();
    lines
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

#[test]
fn a_head_ends_with_an_empty_line_however_its_lines_end() {
    for (octets, end) in [
        (&b"HTTP/1.1 200 OK\r\n\r\nrest"[..], Some(19)),
        (b"HTTP/1.1 200 OK\n\nrest", Some(17)),
        (b"HTTP/1.1 200 OK\nA: b\r\n\nrest", Some(23)),
        (b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Some(23)),
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r", None),
        (b"\r\n\r\n", None),
        (b"", None),
    ] {
        assert_eq!(end_of(octets, 0), end, "{octets:?}");
        // The same, however the octets come in.
        let piecewise =
            (0..=octets.len()).find_map(|to| end_of(&octets[..to], to.saturating_sub(1)));
        assert_eq!(piecewise, end, "{octets:?}");
    }
}

#[test]
fn a_status_line_is_read_in_every_form_that_says_a_status() {
    for (line, status, persists) in [
        ("HTTP/1.1 200 OK", 200, true),
        ("HTTP/1.1 200", 200, true),
        ("HTTP/1.1 200 ", 200, true),
        ("http/1.1 201 Created", 201, true),
        ("HTTP/1.1  404  Not Found", 404, true),
        ("HTTP/1.0 200 OK", 200, false),
        ("HTTP/1.1 299 J\u{e4}", 299, true),
    ] {
        let head = read(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).unwrap();
        assert_eq!((head.status, head.persists), (status, persists), "{line}");
    }
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 20",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc",
        "HTTP/x.1 200 OK",
        "HTTP/ 200 OK",
        "HTTP/1.1 099 x",
    ] {
        assert_eq!(read(&format!("{line}\r\n\r\n")), Err(HeadProblem::StatusLine), "{line}");
    }
    for line in ["HTTP/1 200 OK", "HTTP/2 200", "HTTP/2.0 200 OK", "HTTP/3.0 200 OK"] {
        let head = read(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).unwrap();
        assert_eq!((head.status, head.persists, head.repairs), (200, false, 1), "{line}");
    }
    assert_eq!(read("220 mail.example.com\r\n\r\n"), Err(HeadProblem::NotHttp));
    assert_eq!(&read("HTTP/1.1 200 a\u{1}b\r\n\r\n").unwrap().reason[..], b"ab");
}

#[test]
fn an_odd_line_is_put_right_or_left_out_and_the_connection_not_used_again() {
    for (lines, expected) in [
        ("X-A : v\r\n", &["x-a: v"][..]),
        ("X-A\t: v\r\n", &["x-a: v"]),
        ("X-A: v\r\n  w\r\n\tx\r\n", &["x-a: v w x"]),
        ("X-A:\r\n v\r\n", &["x-a: v"]),
        ("X A: v\r\nX-B: w\r\n", &["x-b: w"]),
        ("X-A: a\u{1}b\r\nX-B: w\r\n", &["x-b: w"]),
        ("X-A: a\0b\r\nX-B: w\r\n", &["x-b: w"]),
        ("X-A: a\rX-C: c\r\nX-B: w\r\n", &["x-b: w"]),
        (": v\r\nX-B: w\r\n", &["x-b: w"]),
        ("PHP Warning:  Undefined variable $x in /srv/a.php on line 3\r\nX-B: w\r\n", &["x-b: w"]),
        ("<b>Warning</b>: no connection, content-length: 9\r\nX-B: w\r\n", &["x-b: w"]),
        ("no colon, no connection\r\n and its fold\r\nX-B: w\r\n", &["x-b: w"]),
        (" a fold of nothing\r\nX-B: w\r\n", &["x-b: w"]),
        ("X-\u{e4}: v\r\nX-B: w\r\n", &["x-b: w"]),
    ] {
        let head = with(&format!("{lines}Content-Length: 2\r\n")).unwrap();
        let mut lines_read = shown(&head);
        lines_read.retain(|line| line != "content-length: 2");
        assert_eq!(lines_read, expected, "{lines:?}");
        assert!(head.repairs > 0 && !head.persists, "{lines:?}");
        assert_eq!(head.framing, Framing::Length(2), "{lines:?}");
    }
    let whole = with("Content-Length: 2\r\nX-A: \u{e4}\tb\r\nX-Empty:\r\n").unwrap();
    assert_eq!((whole.repairs, whole.persists), (0, true));
}

#[test]
fn an_odd_line_that_names_the_framing_is_never_left_out() {
    for lines in [
        "Content-Length\u{b}: 2\r\n",
        "Content-Length\0: 2\r\n",
        "\u{b}Content-Length: 2\r\n",
        "<br>Content-Length: 2\r\n",
        "Content-Length 2\r\n",
        "X-A: v\r\nTransfer-Encoding\u{e4}: chunked\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Connection: clo\u{1}se\r\n",
        " Content-Length: 2\r\n",
        "Trans\0fer-Encoding: chunked\r\n",
    ] {
        assert_eq!(with(lines), Err(HeadProblem::FramingLine), "{lines:?}");
    }
}

#[test]
fn the_content_ends_where_the_fields_agree_that_it_ends() {
    use HeadProblem::{ContentLength, TransferCoding};
    for (lines, framing) in [
        ("Content-Length: 5\r\n", Ok((Framing::Length(5), true))),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Ok((Framing::Length(5), true))),
        ("Content-Length: 5, 5\r\n", Ok((Framing::Length(5), true))),
        ("Content-Length : 5\r\n", Ok((Framing::Length(5), false))),
        ("Content-Length: 5\r\nConnection: close\r\n", Ok((Framing::Length(5), false))),
        ("Content-Length: 5\r\nConnection: keep-alive, Close\r\n", Ok((Framing::Length(5), false))),
        ("Transfer-Encoding: chunked\r\n", Ok((Framing::Chunked, true))),
        ("Transfer-Encoding: Chunked\r\nContent-Length: 5\r\n", Ok((Framing::Chunked, false))),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Ok((Framing::Chunked, false)),
        ),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Ok((Framing::Length(5), false))),
        ("", Ok((Framing::Close, false))),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(ContentLength)),
        ("Content-Length: 2x\r\n", Err(ContentLength)),
        ("Content-Length: +5\r\n", Err(ContentLength)),
        ("Content-Length: -1\r\n", Err(ContentLength)),
        ("Content-Length:\r\n", Err(ContentLength)),
        ("Content-Length: 99999999999999999999999\r\n", Err(ContentLength)),
        ("Content-Length: \u{e4}\r\n", Err(ContentLength)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: gzip\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: \u{e4}\r\n", Err(TransferCoding)),
    ] {
        let read = with(lines).map(|head| (head.framing, head.persists));
        assert_eq!(read, framing, "{lines:?}");
    }
}

#[test]
fn what_is_framed_twice_goes_on_framed_once() {
    let head = with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n").unwrap();
    assert_eq!(shown(&head), ["transfer-encoding: chunked"]);
    let head = with("Content-Length: 5, 5\r\nContent-Length: 5\r\n").unwrap();
    assert_eq!(shown(&head), ["content-length: 5"]);
}

#[test]
fn answers_without_content_have_none_whatever_they_say() {
    for status in [204, 304] {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 7\r\n\r\n");
        let head = read(&text).unwrap();
        assert_eq!((head.framing, head.persists), (Framing::None, true), "{status}");
    }
    let octets = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    let head = AnswerHead::read(&octets, true).unwrap();
    assert_eq!(head.framing, Framing::None);
    assert_eq!(shown(&head), ["content-length: 7"]);
    // A 205 that does not say so has none either.
    let head = read("HTTP/1.1 205 Reset Content\r\n\r\n").unwrap();
    assert_eq!((head.framing, head.persists), (Framing::Length(0), false));
}

#[test]
fn http_1_0_keeps_a_connection_where_it_says_so_and_may_send_chunks() {
    let head = read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!((head.framing, head.persists), (Framing::Chunked, false));
    let head =
        read("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
    assert!(head.persists);
}

#[test]
fn as_many_fields_are_read_as_there_are() {
    let lines =
        (0..3000).map(|number| format!("X-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    assert_eq!(with(&lines).unwrap().fields.len(), 3000);
    let lines = (0..70_000).map(|number| format!("{number:x}:\r\n")).collect::<Vec<_>>().concat();
    assert_eq!(with(&lines), Err(HeadProblem::TooManyFields));
}

#[test]
fn a_log_is_shown_no_control_character_of_the_first_line() {
    assert_eq!(first_line_shown(b"HTTP/1.1 200 O\x1bK\r\nX: y\r\n"), "HTTP/1.1 200 O?K");
    assert_eq!(first_line_shown(&[b'a'; 100]).len(), 80);
    assert_eq!(status_of(b"HTTP/1.1 201 Created\r\nbad"), Some(201));
    assert_eq!(status_of(b"HTTP/1.1 2"), None);
}

#[test]
fn where_there_is_no_content_its_end_does_not_have_to_be_told() {
    let bad = [
        "Content-Length: 2x",
        "Content-Length:",
        "Content-Length: 0\r\nContent-Length: 4",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked\r\nContent-Length: 3",
    ];
    for lines in bad {
        for (line, to_head) in [("204 No Content", false), ("304 x", false), ("200 OK", true)] {
            let octets = format!("HTTP/1.1 {line}\r\n{lines}\r\nX-A: b\r\n\r\n");
            let head = AnswerHead::read(&Bytes::from(octets), to_head).unwrap();
            assert_eq!((head.framing, head.persists), (Framing::None, false), "{lines:?}");
            assert_eq!(shown(&head), ["x-a: b"]);
        }
        assert!(with(&format!("{lines}\r\n")).is_err(), "{lines:?}");
    }
}
