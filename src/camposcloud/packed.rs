//! Bodies that the server compressed, though no request allows it.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::wire::Odd;

/// The body without gzip or deflate. More than `cap` bytes are an error: a small body may become a very large one. The
/// first bytes show the compression, because no JSON begins like them; only raw deflate needs the header.
pub(super) fn unpacked(body: Vec<u8>, encoding: Option<&str>, cap: usize) -> Result<Vec<u8>, Odd> {
    let deflate = encoding.is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("deflate"));
    match *body {
        [0x1f, 0x8b, ..] => read(MultiGzDecoder::new(&*body), cap),
        [0x78, second, ..] if (0x7800 + u16::from(second)).is_multiple_of(31) => read(ZlibDecoder::new(&*body), cap),
        // The header may be wrong.
        [_, ..] if deflate => match read(DeflateDecoder::new(&*body), cap) {
            Err(Odd::Packed) => Ok(body),
            read => read,
        },
        _ => Ok(body),
    }
}

fn read(decoder: impl Read, cap: usize) -> Result<Vec<u8>, Odd> {
    let mut text = Vec::new();
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(most).read_to_end(&mut text).map_err(|_| Odd::Packed)?;
    if text.len() > cap { Err(Odd::TooLarge(cap >> 10)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = br#"{"_id":"a1","name":"a name"}"#;

    macro_rules! packed {
        ($encoder:ident, $text:expr) => {{
            let mut encoder = $encoder::new(Vec::new(), Compression::default());
            encoder.write_all($text).unwrap();
            encoder.finish().unwrap()
        }};
    }

    #[test]
    fn a_compressed_body_is_read_with_and_without_its_header() {
        let read = |body: &[u8], encoding| unpacked(body.to_vec(), encoding, 1000);
        for encoding in [None, Some("gzip"), Some("x-gzip"), Some("identity")] {
            assert_eq!(read(&packed!(GzEncoder, TEXT), encoding).unwrap(), TEXT);
            assert_eq!(read(&packed!(ZlibEncoder, TEXT), encoding).unwrap(), TEXT);
            assert_eq!(read(TEXT, encoding).unwrap(), TEXT);
        }
        assert_eq!(read(&packed!(DeflateEncoder, TEXT), Some(" Deflate")).unwrap(), TEXT);
        assert_eq!(read(b"", Some("deflate")).unwrap(), b"");
        assert_eq!(read(TEXT, Some("deflate")).unwrap(), TEXT);
    }

    #[test]
    fn the_cap_holds_for_what_is_unpacked() {
        let bomb = packed!(GzEncoder, &vec![b' '; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(unpacked(bomb, Some("gzip"), 1 << 20), Err(Odd::TooLarge(1024)));
        let mut cut = packed!(GzEncoder, TEXT);
        cut.truncate(20);
        assert_eq!(unpacked(cut, None, 1000), Err(Odd::Packed));
    }
}
