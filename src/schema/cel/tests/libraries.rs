//! Functions: CEL's own, its extensions, and Kubernetes' libraries.

use super::{check_faults, check_values};

#[test]
fn conversions() {
    check_values(&[
        ("int('42') + int(2.9) + int(3u)", "47"),
        ("int(duration('1us'))", "1000"),
        ("int(timestamp('1970-01-01T00:01:00Z'))", "60"),
        ("uint(3) + uint('4')", "7"),
        ("double('1.5') + double(1)", "2.5"),
        ("double('Infinity')", "+Inf"),
        ("string(1.0) + string(1234567.0) + string(true)", "11.234567e+06true"),
        ("string(duration('90m'))", "5400s"),
        ("string(duration('-1ms'))", "-0.001s"),
        ("string(timestamp('2024-01-02T03:04:05.60+01:00'))", "2024-01-02T03:04:05.6+01:00"),
        ("string(b'hi') + string(1u)", "hi1"),
        ("bool('true') && bool('1') && !bool('F')", "true"),
        ("type(1) == int && type('') == string && type([]) == list", "true"),
        ("type(timestamp(0)) == google.protobuf.Timestamp && type(null) == null_type", "true"),
        ("type(type(1)) == type", "true"),
        ("timestamp(0) == timestamp('1970-01-01T00:00:00Z')", "true"),
    ]);
    check_faults(&[
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("int(1e19)", "integer overflow"),
        ("uint(-1)", "unsigned integer overflow"),
        ("9223372036854775807 + self.count", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("self.count / 0", "division by zero"),
        ("self.count % 0", "modulus by zero"),
        ("string(b'\\xff')", "invalid UTF-8 in bytes, cannot convert to string"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "timestamp overflow"),
        ("self.either + 1", "no such overload"),
    ]);
}

#[test]
fn times() {
    check_values(&[
        ("self.when.getMonth()", "1"),
        ("self.when.getDate()", "29"),
        ("self.when.getDayOfMonth()", "28"),
        ("self.when.getDayOfWeek()", "4"),
        ("self.when.getDayOfYear()", "59"),
        ("self.when.getHours() * 60 + self.when.getMinutes()", "750"),
        ("self.when.getSeconds()", "45"),
        ("self.when.getMilliseconds()", "500"),
        ("self.when.getHours('-03:30')", "9"),
        ("self.when.getHours('Asia/Tokyo')", "21"),
        ("duration('90m').getHours()", "1"),
        ("duration('90m').getMinutes()", "90"),
        ("duration('1.5s').getMilliseconds()", "1500"),
        (
            "timestamp('2024-01-01T00:00:00Z') - duration('1s') < timestamp('2024-01-01T00:00:00Z')",
            "true",
        ),
    ]);
    check_faults(&[
        ("self.when.getHours('Moon/Base')", "unknown time zone Moon/Base"),
        ("duration('1')", "invalid duration argument"),
        ("timestamp('yesterday')", "invalid timestamp argument"),
    ]);
}

#[test]
fn strings() {
    check_values(&[
        ("'tacocat'.charAt(3)", "o"),
        ("'ab'.charAt(2)", ""),
        ("'hello'.indexOf('l')", "2"),
        ("'hello'.indexOf('l', 3)", "3"),
        ("'hello'.indexOf('z')", "-1"),
        ("'hello'.lastIndexOf('l')", "3"),
        ("'hello'.lastIndexOf('l', 2)", "2"),
        ("'äbc'.substring(1)", "bc"),
        ("'hello'.substring(1, 3)", "el"),
        ("' a '.trim()", "a"),
        ("'aXa'.lowerAscii() + 'aÄ'.upperAscii()", "axaAÄ"),
        ("'aaa'.replace('a', 'b')", "bbb"),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'ab'.replace('', '-')", "-a-b-"),
        ("'a,b,c'.split(',')", "[a, b, c]"),
        ("'a,b,c'.split(',', 2)", "[a, b,c]"),
        ("'ab'.split('')", "[a, b]"),
        ("'a'.split(',', 0)", "[]"),
        ("['a', 'b'].join() + ['a', 'b'].join('-')", "aba-b"),
        ("self.tags.join(',')", "a,b"),
        ("strings.quote('a\"\\n')", "\"a\\\"\\n\""),
        ("'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b')", "true"),
        ("'abc'.matches('^[a-c]+$') && matches('abc', 'b')", "true"),
    ]);
    check_faults(&[
        ("'ab'.charAt(3)", "index out of range: 3"),
        ("'ab'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
        ("'ab'.substring(3)", "index out of range: 3"),
        ("'a'.matches('(')", "invalid matches argument"),
        ("'a'.reverse()", "found no matching overload for 'reverse' applied to 'string.()'"),
        ("[1].join()", "found no matching overload for 'join' applied to 'list(int).()'"),
    ]);
}

#[test]
fn formats_of_strings() {
    check_values(&[
        ("'%s is %d%%'.format(['load', 50])", "load is 50%"),
        ("'%.2f %f'.format([1234.5, 0.5])", "1,234.50 0.500000"),
        ("'%.1e'.format([1500.0])", "1.5×10⁰³"),
        ("'%x %X %o %b %b'.format([255, 'hi', 8, 5, true])", "ff 6869 10 101 1"),
        ("'%s'.format([[1, 'a', null, 1.5]])", "[1, \"a\", null, 1.500000]"),
        ("'%s'.format([{'b': 1, 'a': duration('1s')}])", "{\"a\":duration(\"1s\"), \"b\":1}"),
        ("'%s %s'.format([timestamp(0), type(1)])", "1970-01-01T00:00:00Z int"),
        ("'%f'.format([double('NaN')])", "NaN"),
    ]);
    check_faults(&[
        ("'%d'.format(['a'])", "decimal clause can only be used on integers, was given string"),
        ("'%s %s'.format(['a'])", "index 1 out of range"),
        (
            "'%s'.format(['a', 'b'])",
            "too many arguments supplied to string.format (expected 1, got 2)",
        ),
        ("'%z'.format(['a'])", "unrecognized formatting clause \"z\""),
        ("'%'.format([1])", "unexpected end of string"),
    ]);
}

#[test]
fn lists_and_sets() {
    check_values(&[
        ("[1, 2].isSorted() && !self.numbers.isSorted()", "true"),
        ("self.numbers.sum() + self.numbers.max() - self.numbers.min()", "8"),
        ("[1.5, 2.0].sum()", "3.5"),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", "true"),
        ("['b', 'a'].min()", "a"),
        ("self.tags.indexOf('b') + [1, 2, 1].lastIndexOf(1)", "3"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2, 3]"),
        ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
        ("[[[1]], [[2]]].flatten(2)", "[1, 2]"),
        ("self.numbers.sort()", "[1, 2, 3]"),
        ("['b', 'a', 'b'].distinct()", "[b, a]"),
        ("[1, 2].reverse()", "[2, 1]"),
        ("lists.range(3)", "[0, 1, 2]"),
        ("[].first().hasValue()", "false"),
        ("sets.contains([1, 2], [2]) && !sets.contains([1], [2])", "true"),
        ("sets.intersects([1, 2], [2, 3])", "true"),
        ("sets.equivalent([1, 2], [2, 1, 1])", "true"),
    ]);
    check_faults(&[
        ("self.numbers.filter(n, n > 5).min()", "min called on empty list"),
        ("[1].slice(0, 2)", "cannot slice(0, 2), list is length 1"),
        ("[1].slice(1, 0)", "start index must be less than or equal to end index"),
        ("[1].flatten(-1)", "level must be non-negative"),
        ("math.greatest(1, 2)", "undeclared reference to 'math' (in container '')"),
        ("cel.bind(x, 1, x)", "undeclared reference to"),
        ("base64.encode(b'a')", "undeclared reference to 'base64'"),
        ("[1].includes(1)", "undeclared reference to 'includes' (in container '')"),
    ]);
}

#[test]
fn patterns() {
    check_values(&[
        ("'abc 123'.find('[0-9]+')", "123"),
        ("'abc'.find('[0-9]+')", ""),
        ("'1a2b3'.findAll('[0-9]')", "[1, 2, 3]"),
        ("'1a2b3'.findAll('[0-9]', 2)", "[1, 2]"),
        ("'abc'.matches(self.tags[0])", "true"),
        ("'ä'.matches('^\\\\w$')", "false"),
    ]);
    check_faults(&[
        ("'a'.find(')')", "error parsing regexp: unexpected )"),
        ("'a'.matches(self.name + '(')", "error parsing regexp"),
    ]);
}

#[test]
fn addresses() {
    check_values(&[
        ("ip('127.0.0.1').family() + ip('::1').family()", "10"),
        ("string(ip('2001:DB8::0:1'))", "2001:db8::1"),
        ("ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')", "true"),
        (
            "isIP('10.0.0.1') && !isIP('10.0.0.01') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')",
            "true",
        ),
        ("ip('0.0.0.0').isUnspecified() && ip('127.9.9.9').isLoopback()", "true"),
        ("ip('224.0.0.9').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()", "true"),
        ("ip('169.254.1.1').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()", "true"),
        ("ip('10.1.1.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()", "true"),
        (
            "cidr('10.0.0.0/8').containsIP('10.2.3.4') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
            "true",
        ),
        ("string(cidr('192.168.1.7/24').masked())", "192.168.1.0/24"),
        ("cidr('192.168.1.7/24').ip() == ip('192.168.1.7')", "true"),
        ("cidr('::/0').prefixLength()", "0"),
        ("isCIDR('10.0.0.0/33') || isCIDR('10.0.0.0') || isCIDR('10.0.0.0/08')", "false"),
    ]);
    check_faults(&[
        ("ip('300.0.0.1')", "IP Address \"300.0.0.1\" parse error during conversion from string"),
        ("cidr('10.0.0.0/33')", "prefix length out of range"),
        ("cidr('10.0.0.0/8').containsIP('x')", "parse error during conversion from string"),
    ]);
}

#[test]
fn urls() {
    check_values(&[
        ("url('https://user@example.com:80/a b?k=1&k=2#f').getHost()", "example.com:80"),
        ("url('https://example.com:80/').getHostname()", "example.com"),
        ("url('https://[::1]:80/').getHostname() + url('https://[::1]:80/').getPort()", "::180"),
        ("url('https://example.com').getPort()", ""),
        ("url('HTTPS://example.com/p').getScheme()", "https"),
        ("url('https://example.com/a b/').getEscapedPath()", "/a%20b/"),
        ("url('https://example.com?a=1&b=2&b=3').getQuery()", "{a: [1], b: [2, 3]}"),
        ("url('/absolute/path').getEscapedPath()", "/absolute/path"),
        ("isURL('../relative') || isURL('https://a:b/') || isURL('')", "false"),
        ("url('https://a/') == url('https://a/')", "true"),
    ]);
    check_faults(&[(
        "url('not a url')",
        "URL parse error during conversion from string: parse \"not a url\": invalid URI for request",
    )]);
}

#[test]
fn quantities_and_versions() {
    check_values(&[
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true"),
        ("quantity('500m').isLessThan(quantity('1'))", "true"),
        ("quantity('1k').compareTo(quantity('1000'))", "0"),
        ("quantity('1k') == quantity('1000')", "true"),
        ("quantity('2').add(quantity('500m')).asApproximateFloat()", "2.5"),
        ("quantity('2').add(3).sub(quantity('1')).asInteger()", "4"),
        ("quantity('1.5').isInteger() || isQuantity('1Q') || isQuantity('')", "false"),
        ("sign(quantity('-1')) + sign(quantity('0'))", "-1"),
        (
            "semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()",
            "123",
        ),
        ("semver('1.0.0-alpha.1').isLessThan(semver('1.0.0-alpha.beta'))", "true"),
        ("semver('1.0.0').isGreaterThan(semver('1.0.0-rc'))", "true"),
        ("semver('1.0.0+a').compareTo(semver('1.0.0+b'))", "0"),
        ("semver('v01.2', true).minor()", "2"),
        ("isSemver('1.2') || isSemver('01.2.3') || isSemver('1.2.3-01')", "false"),
        ("isSemver('v1.2', true)", "true"),
    ]);
    check_faults(&[
        ("quantity('1.5').asInteger()", "cannot convert value to integer"),
        ("quantity('x')", "quantities must match the regular expression"),
        ("semver('1.2')", "No Major.Minor.Patch elements found"),
        ("quantity('1') == semver('1.0.0')", "found no matching overload for '_==_'"),
    ]);
}

#[test]
fn named_formats() {
    check_values(&[
        ("format.dns1123Label().validate('my-name').hasValue()", "false"),
        ("format.dns1123Label().validate('my.name').value()", "[must not contain dots]"),
        ("format.dns1123LabelPrefix().validate('my-').hasValue()", "false"),
        ("format.dns1123Subdomain().validate('a.b-c').hasValue()", "false"),
        ("format.dns1035Label().validate('1a').hasValue()", "true"),
        ("format.qualifiedName().validate('example.com/Name_1').hasValue()", "false"),
        ("format.qualifiedName().validate('a/b/c').hasValue()", "true"),
        ("format.labelValue().validate('').hasValue()", "false"),
        ("format.uri().validate('relative').hasValue()", "true"),
        ("format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", "false"),
        (
            "format.byte().validate('aGk=').hasValue() || format.date().validate('2024-01-01').hasValue()",
            "false",
        ),
        ("format.datetime().validate('2024-13-01T00:00:00Z').value()", "[invalid datetime]"),
        ("format.named('uuid').value().validate('x').value()", "[does not match the UUID format]"),
        ("format.named('nothing').hasValue()", "false"),
    ]);
}
