//! AWS Signature Version 4, checked from its description alone.

use super::Request;

/// The access key and the region that a request's signature claims, unchecked.
pub(super) fn claimed(request: &Request) -> Option<(String, String)> {
    let credential = request.header("authorization")?.split_once("Credential=")?.1;
    let mut scope = credential.split([',', ' ']).next()?.split('/');
    let (key, region) = (scope.next()?, scope.nth(1)?);
    Some((key.to_owned(), region.to_owned()))
}
