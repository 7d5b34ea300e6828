package binlog

import (
	"fmt"
	"strings"
)

// typeCase is a column type, how the server itself makes canonical text of it,
// and values to try, as SQL.
type typeCase struct {
	name, ddl, sql string
	values         []string
	only           string // a flavor
}

const (
	asText   = "CONVERT(%s USING utf8mb4)"
	asNumber = "CAST(%s + 0 AS CHAR)"
	asChar   = "CAST(%s AS CHAR)"
	asHex    = "LOWER(HEX(%s))"
)

var typeCases = []typeCase{
	{"c_tiny", "TINYINT", asNumber, []string{"-128", "127", "0"}, ""},
	{"c_utiny", "TINYINT UNSIGNED", asNumber, []string{"255", "1"}, ""},
	{"c_year", "YEAR", asNumber, []string{"1901", "2155", "0", "2024"}, ""},
	{"c_small", "SMALLINT", asNumber, []string{"-32768", "32767"}, ""},
	{"c_usmall", "SMALLINT UNSIGNED ZEROFILL", asNumber, []string{"65535", "7"}, ""},
	{"c_medium", "MEDIUMINT", asNumber, []string{"-8388608", "8388607", "-1"}, ""},
	{"c_umedium", "MEDIUMINT UNSIGNED", asNumber, []string{"16777215", "8388608"}, ""},
	{"c_float", "FLOAT UNSIGNED", "", []string{"1.5", "3e20"}, ""},
	{"c_int", "INT", asNumber, []string{"-2147483648", "2147483647"}, ""},
	{"c_uint", "INT UNSIGNED", asNumber, []string{"4294967295", "2147483648"}, ""},
	{"c_big", "BIGINT", asNumber, []string{"-9223372036854775808", "9223372036854775807"}, ""},
	{"c_ubig", "BIGINT UNSIGNED", asNumber, []string{"18446744073709551615", "9223372036854775808"}, ""},
	{"c_dec", "DECIMAL(10,3)", asChar, []string{"1.5", "-1.5", "0", "-0.001", "9999999.999", "-9999999.999"}, ""},
	{"c_dec0", "DECIMAL(20,0)", asChar, []string{"12345678901234567890", "-1", "1000000000", "9"}, ""},
	{"c_decmax", "DECIMAL(65,30)", asChar, []string{"12345678901234567890123456789012345.123456789012345678901234567891", "-0.000000000000000000000000000001", "1000000000.000000001"}, ""},
	{"c_decfrac", "DECIMAL(9,9)", asChar, []string{"0.123456789", "-0.5", "0"}, ""},
	{"c_udec", "DECIMAL(5,2) UNSIGNED", asChar, []string{"999.99", "0.1"}, ""},
	{"c_bit1", "BIT(1)", "CAST(CAST(%s AS UNSIGNED) AS CHAR)", []string{"b'1'", "b'0'"}, ""},
	{"c_bit10", "BIT(10)", "CAST(CAST(%s AS UNSIGNED) AS CHAR)", []string{"b'1111111111'", "b'1'"}, ""},
	{"c_bit64", "BIT(64)", "CAST(CAST(%s AS UNSIGNED) AS CHAR)", []string{"0xffffffffffffffff", "0x8000000000000000"}, ""},
	{"c_date", "DATE", asChar, []string{"'2024-02-29'", "'0000-00-00'", "'2024-00-00'", "'9999-12-31'"}, ""},
	{"c_time", "TIME", asChar, []string{"'01:02:03'", "'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"}, ""},
	{"c_time1", "TIME(1)", asChar, []string{"'01:02:03'", "'-01:02:03.5'", "'-00:00:00.1'"}, ""},
	{"c_time3", "TIME(3)", asChar, []string{"'01:02:03'", "'01:02:03.004'", "'-01:02:03.120'", "'-00:00:00.001'"}, ""},
	{"c_time6", "TIME(6)", asChar, []string{"'01:02:03'", "'-838:59:58.999999'", "'-00:00:00.000001'", "'-00:00:01'"}, ""},
	{"c_dt", "DATETIME", asChar, []string{"'2024-05-06 07:08:09'", "'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'2024-00-00 00:00:00'"}, ""},
	{"c_dt2", "DATETIME(2)", asChar, []string{"'2024-05-06 07:08:09'", "'0000-00-00 00:00:00'", "'2024-05-06 07:08:09.1'"}, ""},
	{"c_dt5", "DATETIME(5)", asChar, []string{"'2024-05-06 07:08:09.12345'", "'9999-12-31 23:59:59.00001'"}, ""},
	{"c_dt6", "DATETIME(6)", asChar, []string{"'2024-05-06 07:08:09.000001'", "'2024-05-06 07:08:09'"}, ""},
	{"c_ts", "TIMESTAMP NULL", asChar, []string{"'2024-05-06 07:08:09'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"}, ""},
	{"c_ts4", "TIMESTAMP(4) NULL", asChar, []string{"'2024-05-06 07:08:09.1'", "'0000-00-00 00:00:00'"}, ""},
	{"c_char", "CHAR(5)", asText, []string{"'ab '", "''", "'äöü'", "'日本語'"}, ""},
	{"c_vc", "VARCHAR(300)", asText, []string{"'ab  '", "REPEAT('x', 300)", "'😀'"}, ""},
	{"c_charlong", "CHAR(255)", asText, []string{"REPEAT('ß', 255)", "'a'"}, ""},
	{"c_lat", "VARCHAR(20) CHARACTER SET latin1", asText, []string{"'é€'", "'abc'"}, ""},
	{"c_latc", "CHAR(3) CHARACTER SET latin1 COLLATE latin1_bin", asText, []string{"'é'"}, ""},
	{"c_gbk", "VARCHAR(20) CHARACTER SET gbk", asText, []string{"'中文'", "'a'"}, ""},
	{"c_u16", "VARCHAR(20) CHARACTER SET utf16", asText, []string{"'a😀'", "''"}, ""},
	{"c_u16c", "CHAR(4) CHARACTER SET utf16", asText, []string{"'ab'"}, ""},
	{"c_u32", "VARCHAR(20) CHARACTER SET utf32", asText, []string{"'a😀'"}, ""},
	{"c_ucs2", "VARCHAR(20) CHARACTER SET ucs2", asText, []string{"'aé'"}, ""},
	{"c_u3", "VARCHAR(20) CHARACTER SET utf8mb3", asText, []string{"'aé'"}, ""},
	{"c_ascii", "VARCHAR(20) CHARACTER SET ascii", asText, []string{"'a'"}, ""},
	{"c_sjis", "VARCHAR(20) CHARACTER SET cp932", asText, []string{"'日本'"}, ""},
	{"c_koi", "VARCHAR(20) CHARACTER SET koi8r", asText, []string{"'Привет'"}, ""},
	{"c_text", "TEXT", asText, []string{"'long text'", "REPEAT('y', 3000)"}, ""},
	{"c_mtext", "MEDIUMTEXT CHARACTER SET latin1", asText, []string{"'é'"}, ""},
	{"c_bin", "BINARY(16)", asHex, []string{"0x00112233445566778899aabbccddeeff", "0x1100", "''", "0x01000000000000000000000000000000"}, ""},
	{"c_binlong", "BINARY(255)", asHex, []string{"'a'"}, ""},
	{"c_vb", "VARBINARY(300)", asHex, []string{"0x0011", "''", "0x1100"}, ""},
	{"c_blob", "BLOB", asHex, []string{"0x00ff", "''"}, ""},
	{"c_tblob", "TINYBLOB", asHex, []string{"0x00ff"}, ""},
	{"c_enum", "ENUM('a','b,c','d''e','ü')", asText, []string{"'a'", "'b,c'", "4", "'nope'"}, ""},
	{"c_enuml", "ENUM('x','é') CHARACTER SET latin1", asText, []string{"2"}, ""},
	{"c_enumbig", "ENUM(" + manyMembers(300) + ")", asText, []string{"'m299'", "'m0'"}, ""},
	{"c_set", "SET('a','b','ü','d')", asText, []string{"'a,ü'", "''", "'a,b,ü,d'"}, ""},
	{"c_set64", "SET(" + manyMembers(64) + ")", asText, []string{"0x8000000000000001", "'m0,m63'"}, ""},
	{"c_json", "JSON", "", []string{`'{"a": 1}'`}, ""},
	{"c_geo", "GEOMETRY", "", []string{"ST_GeomFromText('POINT(1 2)')"}, ""},
	{"c_double", "DOUBLE", "", []string{"1e300", "-0.1"}, ""},
	{"c_vec", "VECTOR(2)", "", []string{"STRING_TO_VECTOR('[1,2]')"}, "mysql"},
	{"c_vecm", "VECTOR(2)", "", []string{"VEC_FromText('[1,2]')"}, "mariadb"},
	{"c_vcc", "VARCHAR(100) COMPRESSED", "", []string{"REPEAT('c', 90)"}, "mariadb"},
	{"c_blobc", "TEXT COMPRESSED", "", []string{"REPEAT('c', 900)"}, "mariadb"},
	{"c_last", "VARCHAR(9) CHARACTER SET latin1", asText, []string{"'é'"}, ""},
	{"c_lastu", "INT UNSIGNED", asNumber, []string{"4000000000"}, ""},
}

func manyMembers(n int) string {
	m := make([]string, n)
	for i := range m {
		m[i] = fmt.Sprintf("'m%d'", i)
	}
	return strings.Join(m, ",")
}
